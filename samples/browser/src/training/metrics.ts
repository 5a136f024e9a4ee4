/** How good an output is: PSNR of numbers, or the share of classes that are right, per sample; as tgdonnx/finetuning/metrics.py. */
import type { Head, Manifest } from "../artifacts/manifest";
import type { Fed } from "../data/dataset";

export interface Output {
  values: Float32Array;
  shape: readonly number[];
}
export interface Metric {
  name: "PSNR" | "accuracy";
  /** Returns one number per sample. */
  of(output: Output, target: Fed): number[];
}

const OF_MASKS = /\b(bce|focal|dice)\b/;

/** Returns the metric that suits an output that trains; null where there is none. */
export function metricOf(manifest: Manifest, head: Head): Metric | null {
  if (head.class_axis !== null) {
    const axis = head.class_axis;
    return { name: "accuracy", of: (output, target) => accuracies(output, target, axis) };
  }
  const range = manifest.options.data_range;
  return OF_MASKS.test(head.loss) ? null : { name: "PSNR", of: (output, target) => psnrs(output, target, range) };
}

function psnrs({ values, shape }: Output, target: Fed, range: number): number[] {
  const samples = shape[0] ?? 1;
  const size = values.length / samples;
  return Array.from({ length: samples }, (_, sample) => {
    let sum = 0;
    for (let i = sample * size; i < (sample + 1) * size; i++) sum += (values[i]! - Number(target.values[i])) ** 2;
    return 20 * Math.log10(range / Math.sqrt(sum / size));
  });
}

function accuracies(output: Output, target: Fed, axis: number): number[] {
  const samples = output.shape[0] ?? 1;
  const classes = largest(output, axis);
  const size = classes.length / samples;
  return Array.from({ length: samples }, (_, sample) => {
    let right = 0;
    for (let i = sample * size; i < (sample + 1) * size; i++) right += Number(classes[i] === Number(target.values[i]));
    return right / size;
  });
}

/** Returns the class with the largest value at every place. */
export function largest({ values, shape }: Output, axis: number): Int32Array {
  const count = shape[axis] ?? 1;
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const out = new Int32Array(values.length / count);
  for (let place = 0; place < out.length; place++) {
    const base = Math.floor(place / inner) * count * inner + (place % inner);
    let best = 0;
    for (let c = 1; c < count; c++) if (values[base + c * inner]! > values[base + best * inner]!) best = c;
    out[place] = best;
  }
  return out;
}

/** Returns probabilities of the classes of a sample: the numbers themselves where they are some, else their softmax. */
export function probabilities(scores: Float32Array): number[] {
  const sum = scores.reduce((total, score) => total + score, 0);
  if (scores.every((score) => score >= 0) && Math.abs(sum - 1) < 1e-3) return Array.from(scores);
  const most = Math.max(...scores);
  const powers = Array.from(scores, (score) => Math.exp(score - most));
  const total = powers.reduce((all, power) => all + power, 0);
  return powers.map((power) => power / total);
}
