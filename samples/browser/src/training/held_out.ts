/** Held-out samples, before and after: loss and metric of a state, and what a person is shown. */
import type { Manifest } from "../artifacts/manifest";
import { fixedBatch } from "../artifacts/manifest";
import type { State } from "../artifacts/safetensors";
import type { Batch, Dataset, Fed } from "../data/dataset";
import { metricOf, probabilities, type Output } from "./metrics";
import type { TrainingSession } from "./session";

export interface Picture {
  width: number;
  height: number;
  rgba: Uint8ClampedArray<ArrayBuffer>;
}
export interface Shown {
  name: string;
  input: Picture;
  target: Picture | null;
  /** Of an output that is a picture. */
  output: Picture | null;
  /** Of a classifier. */
  answer: { class: number; probability: number; expected: number } | null;
}
export interface Look {
  loss: number;
  metric: number | null;
  shown: Shown[];
}

const SHOWN = 3;

/** Returns loss and metric over all held-out samples, and the first of them to look at; null where there are none. */
export async function lookAt(session: TrainingSession, manifest: Manifest, data: Dataset, state: State): Promise<Look | null> {
  const size = fixedBatch(manifest) ?? 1;
  const head = manifest.heads[0]!;
  const measure = metricOf(manifest, head);
  const losses: number[] = [];
  const metrics: number[] = [];
  const shown: Shown[] = [];
  for (let first = 0; first + size <= data.held; first += size) {
    const samples = Array.from({ length: size }, (_, i) => first + i);
    const batch = await data.heldBatch(samples);
    const { loss, outputs } = await session.evaluate(batch, state);
    losses.push(loss);
    const output = outputs.get(head.output);
    const target = batch.get(head.target)!;
    if (output && measure) metrics.push(...measure.of(output, target));
    for (const [row, sample] of samples.entries()) {
      if (shown.length < SHOWN && output) shown.push(...shownOf(manifest, data, sample, row, batch, output));
    }
  }
  if (!losses.length) return null;
  return { loss: mean(losses), metric: metrics.length ? mean(metrics) : null, shown };
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function shownOf(manifest: Manifest, data: Dataset, sample: number, row: number, batch: Batch, output: Output): Shown[] {
  const head = manifest.heads[0]!;
  const spec = manifest.inputs.find(({ role }) => role === "input")!;
  const { name, toByte } = data.look(sample);
  const pictureOf = ({ values, shape }: Output | Fed): Picture | null =>
    values instanceof Float32Array ? toPicture(values, shape, row, toByte) : null;
  const input = pictureOf(batch.get(spec.name)!);
  if (!input) return [];
  const target = batch.get(head.target)!;
  const classifies = head.class_axis === 1 && output.shape.length === 2;
  if (!classifies) {
    const picture = pictureOf(output);
    return picture ? [{ name, input, target: pictureOf(target), output: picture, answer: null }] : [];
  }
  const count = output.shape[1]!;
  const chances = probabilities(output.values.slice(row * count, (row + 1) * count));
  const best = chances.indexOf(Math.max(...chances));
  return [{ name, input, target: null, output: null, answer: { class: best, probability: chances[best]!, expected: Number(target.values[row]) } }];
}

function toPicture(values: Float32Array, shape: readonly number[], row: number, toByte: (value: number, channel: number) => number): Picture | null {
  const [, channels = 0, height = 0, width = 0] = shape;
  if (shape.length !== 4 || (channels !== 1 && channels !== 3)) return null;
  const plane = height * width;
  const rgba = new Uint8ClampedArray(4 * plane).fill(255);
  for (let channel = 0; channel < 3; channel++) {
    const from = (row * channels + Math.min(channel, channels - 1)) * plane;
    for (let pixel = 0; pixel < plane; pixel++) rgba[4 * pixel + channel] = toByte(values[from + pixel]!, channel);
  }
  return { width, height, rgba };
}
