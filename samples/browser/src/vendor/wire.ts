/**
 * The wire format of protobuf: where the fields of a message lie in the bytes of an ONNX file, so that some can be taken out
 * or added, and every other byte stays. As tgdonnx/files/wire.
 */
import { Refusal } from "../refusal";

export const GRAPH = 7;
export const INITIALIZER = 5;
export const GRAPH_INPUT = 11;
export const METADATA_PROPS = 14;
export const TENSOR_NAME = 8;
export const VALUE_INFO_NAME = 1;
const LENGTH_DELIMITED = 2;

/** A field: from `start` on its key, from `value` to `end` what it holds. */
export interface Field {
  number: number;
  delimited: boolean;
  start: number;
  value: number;
  end: number;
}

/** Returns the fields of the message in a range of bytes. */
export function* fieldsOf(data: Uint8Array, from = 0, to = data.length): Generator<Field> {
  let at = from;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = data[at++];
      if (byte === undefined || at > to || factor > 2 ** 63) throw damaged(at);
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  };
  while (at < to) {
    const start = at;
    const key = varint();
    const kind = key & 7;
    let value = at;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === LENGTH_DELIMITED) {
      const length = varint();
      value = at;
      at += length;
    } else throw damaged(start);
    if (at > to) throw damaged(start);
    yield { number: Math.floor(key / 8), delimited: kind === LENGTH_DELIMITED, start, value, end: at };
  }
}

/** Returns the text of the first field of a number in a message. */
export function textIn(data: Uint8Array, message: Field, number: number): string {
  for (const field of fieldsOf(data, message.value, message.end)) {
    if (field.number === number && field.delimited) return new TextDecoder().decode(data.subarray(field.value, field.end));
  }
  return "";
}

/** Returns a serialised field with a length. */
export function delimited(number: number, ...parts: Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return joined(varintOf(number * 8 + LENGTH_DELIMITED), varintOf(length), ...parts);
}

/** Returns bytes in a row. */
export function joined(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function varintOf(value: number): Uint8Array {
  const out: number[] = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  out.push(value);
  return Uint8Array.from(out);
}

function damaged(at: number): Refusal {
  return new Refusal(`masked.onnx is damaged at byte ${at}. Copy the artifacts again, or build them again.`);
}
