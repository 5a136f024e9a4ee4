/** Data of .npz or .npy files: arrays named like the inputs of the model, the first axis counting samples, taken as they are. */
import type { Dropped } from "../artifacts/artifacts";
import { sha256 } from "../artifacts/hashing";
import type { Manifest, Spec } from "../artifacts/manifest";
import { Refusal } from "../refusal";
import type { Batch, Dataset, Fed } from "./dataset";
import { readNpy, readNpz, type Numbers } from "./npy";
import { split } from "./order";

type Arrays = Map<string, { values: Float32Array | BigInt64Array; shape: number[] }>;

/** Whether a dropped file is one of NumPy's. */
export function isArrayFile({ path }: Dropped): boolean {
  return /\.np[yz]$/i.test(path);
}

/** Opens arrays. A file or folder with `validation` or `held` in its path holds samples that are held out. */
export async function openArrays(dropped: Dropped[], manifest: Manifest, heldOut: number): Promise<Dataset> {
  const [training, apart]: [Map<string, Numbers>, Map<string, Numbers>] = [new Map(), new Map()];
  const hashes: string[] = [];
  for (const { path, file } of dropped.filter(isArrayFile)) {
    const data = new Uint8Array(await file.arrayBuffer());
    hashes.push(await sha256(data));
    const into = /validation|held/i.test(path) ? apart : training;
    if (/\.npz$/i.test(path)) for (const [name, array] of readNpz(data, file.name)) into.set(name, array);
    else into.set(file.name.slice(0, -".npy".length), readNpy(data, file.name));
  }
  const train = inOrder(training, manifest.inputs);
  const count = samplesOf(train);
  const separate = apart.size ? inOrder(apart, manifest.inputs) : null;
  const parts = separate
    ? { train: Array.from({ length: count }, (_, i) => i), held: Array.from({ length: samplesOf(separate) }, (_, i) => i) }
    : split(count, heldOut);
  const preview = manifest.inputs.find((spec) => spec.role === "input");
  const scale = extent(train.get(preview?.name ?? "")?.values);
  return {
    train: parts.train.length,
    held: parts.held.length,
    told: `${parts.train.length} samples to train on, ${parts.held.length} held out, taken as they are`,
    classes: [],
    preparation: null,
    identity: await sha256(new TextEncoder().encode(JSON.stringify([hashes, parts]))),
    batch: async (samples) => rowsOf(train, samples.map((each) => parts.train[each] as number)),
    heldBatch: async (samples) => rowsOf(separate ?? train, samples.map((each) => parts.held[each] as number)),
    look: (sample) => ({
      name: `sample ${parts.held[sample]}`,
      toByte: (value) => (255 * (value - scale.least)) / (scale.most - scale.least || 1),
    }),
  };
}

function inOrder(found: Map<string, Numbers>, inputs: Spec[]): Arrays {
  const arrays: Arrays = new Map();
  for (const spec of inputs) {
    const names = spec.role === "target" && spec.vendor_name ? [spec.name, spec.vendor_name] : [spec.name];
    const array = names.map((name) => found.get(name)).find((each) => each !== undefined);
    if (!array) {
      const there = [...found.keys()].join(", ") || "none";
      throw new Refusal(`The data has no array ${names.join(" or ")}; its arrays are: ${there}. Name arrays like the inputs of the model.`);
    }
    const wrong = spec.shape && (spec.shape.length !== array.shape.length || spec.shape.some((size, axis) => axis > 0 && size !== null && size !== array.shape[axis]));
    if (wrong) {
      const wanted = spec.shape!.map((size, axis) => (axis === 0 ? "N" : (size ?? "any"))).join(" x ");
      throw new Refusal(`The array ${spec.name} is ${array.shape.join(" x ")}, and the model takes ${wanted}.`);
    }
    arrays.set(spec.name, { values: typed(array, spec), shape: array.shape });
  }
  const counts = [...arrays].map(([name, { shape }]) => `${name} ${shape[0] ?? 0}`);
  if (new Set([...arrays.values()].map(({ shape }) => shape[0])).size > 1) {
    throw new Refusal(`The arrays have different numbers of samples: ${counts.join(", ")}.`);
  }
  return arrays;
}

function typed(array: Numbers, spec: Spec): Float32Array | BigInt64Array {
  const { values } = array;
  if (spec.dtype === "int64") {
    if (values instanceof BigInt64Array) return values;
    if (values instanceof Float32Array || values instanceof Float64Array) {
      throw new Refusal(`The array ${spec.name} holds ${array.dtype}, and classes are whole numbers. Save it as int64.`);
    }
    return BigInt64Array.from(values, BigInt);
  }
  if (spec.dtype !== "float32") {
    throw new Refusal(`The input ${spec.name} is of the type ${spec.dtype}; this page feeds float32 and int64. Train it with Python.`);
  }
  if (values instanceof BigInt64Array) return Float32Array.from(values, Number);
  const numbers = values instanceof Float32Array ? values : Float32Array.from(values);
  if (!numbers.every(Number.isFinite)) throw new Refusal(`The array ${spec.name} holds NaN or infinity.`);
  return numbers;
}

function samplesOf(arrays: Arrays): number {
  return [...arrays.values()][0]?.shape[0] ?? 0;
}

function rowsOf(arrays: Arrays, rows: number[]): Batch {
  const batch: Batch = new Map();
  for (const [name, { values, shape }] of arrays) {
    const size = shape.slice(1).reduce((product, each) => product * each, 1);
    const Type = values.constructor as { new (length: number): Float32Array } & { new (length: number): BigInt64Array };
    const out = new Type(rows.length * size) as Fed["values"];
    rows.forEach((row, at) => out.set(values.subarray(row * size, (row + 1) * size) as never, at * size));
    batch.set(name, { values: out, shape: [rows.length, ...shape.slice(1)] });
  }
  return batch;
}

function extent(values: Float32Array | BigInt64Array | undefined): { least: number; most: number } {
  let [least, most] = [Infinity, -Infinity];
  if (values instanceof Float32Array) {
    for (const value of values) {
      if (value < least) least = value;
      if (value > most) most = value;
    }
  }
  return least < most ? { least, most } : { least: 0, most: 1 };
}
