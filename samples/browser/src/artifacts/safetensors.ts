/**
 * `state.safetensors`, as tgdonnx/engines/onnxruntime/state.py specifies it: 8 bytes with the length of a header, the header in
 * JSON, and float32 numbers. Its checksum is checked when it is read, and written, so that Python takes what this page saves.
 */
import { Refusal } from "../refusal";
import { sha256 } from "./hashing";
import { byCodePoint, dumps, plain, read as readJson, Whole, type Json } from "./python_json";

export interface Tensor {
  shape: number[];
  values: Float32Array;
}
export interface State {
  tensors: Map<string, Tensor>;
  updates: number;
}

const FORMAT = "tgdonnx.format";
const UPDATES = "tgdonnx.updates";
const SHA256 = "tgdonnx.sha256";
const REMEDY = "Copy the directory again if it is a copy, or build and train again.";

/** Reads a checkpoint, and checks that it is as it was written. */
export async function readState(data: Uint8Array): Promise<State> {
  const damaged = (why: string): Refusal => new Refusal(`state.safetensors is damaged: ${why}. ${REMEDY}`);
  if (data.length < 8) throw damaged("it is shorter than its header");
  const length = Number(new DataView(data.buffer, data.byteOffset, 8).getBigUint64(0, true));
  if (length > data.length - 8) throw damaged("it is shorter than its header says");
  const header = plain(readJson(new TextDecoder().decode(data.subarray(8, 8 + length)))) as Record<string, unknown>;
  const { __metadata__: told, ...entries } = header;
  const metadata = (told ?? {}) as Record<string, string>;
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, data_offsets: place } = entry as { dtype: string; shape: number[]; data_offsets: number[] };
    const [begin = 0, end = 0] = place;
    const count = shape.reduce((product, size) => product * size, 1);
    if (dtype !== "F32" || end - begin !== 4 * count || 8 + length + end > data.length) {
      throw damaged(`the place of ${name} is wrong`);
    }
    tensors.set(name, { shape, values: new Float32Array(data.slice(8 + length + begin, 8 + length + end).buffer) });
  }
  const { [SHA256]: written, ...rest } = metadata;
  if ((await digest(tensors, rest)) !== written) throw damaged("its content is not what was written (its SHA-256 is another)");
  if (metadata[FORMAT] !== "1") {
    throw new Refusal(`state.safetensors has format ${metadata[FORMAT]}, and this page reads format 1: take a newer page.`);
  }
  return { tensors, updates: Number(metadata[UPDATES]) };
}

/** Returns the file of a state, without the state of a run: Python exports it, and starts a run from it. */
export async function writeState(state: State): Promise<Uint8Array> {
  const metadata: Record<string, string> = { [FORMAT]: "1", [UPDATES]: String(state.updates) };
  metadata[SHA256] = await digest(state.tensors, metadata);
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, values }] of state.tensors) {
    header[name] = { dtype: "F32", shape, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
  }
  let text: Uint8Array = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(0x20);
  padded.set(text);
  text = padded;
  const out = new Uint8Array(8 + text.length + offset);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  let at = 8 + text.length;
  for (const { values } of state.tensors.values()) {
    out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return out;
}

async function digest(tensors: Map<string, Tensor>, metadata: Record<string, string>): Promise<string> {
  const encoder = new TextEncoder();
  const parts: Uint8Array[] = [encoder.encode(dumps(new Map(Object.entries(metadata)), true))];
  for (const name of [...tensors.keys()].sort(byCodePoint)) {
    const { shape, values } = tensors.get(name) as Tensor;
    const described: Json = [name, "<f4", shape.map((size) => new Whole(String(size)))];
    parts.push(encoder.encode(dumps(described)), new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  return sha256(...parts);
}
