import { expect, test } from "vitest";
import { readState, writeState } from "../src/artifacts/safetensors";
import { blended } from "../src/vendor/blending";
import { readNumbers, writeNumbers } from "../src/vendor/places";
import { earlierRounds } from "../src/vendor/vendor_file";
import { delimited, fieldsOf, joined } from "../src/vendor/wire";
import type { Trained } from "../src/artifacts/manifest";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

test("a parameter of some rows and columns lies at its places of the whole tensor", () => {
  const file = new Uint8Array(4 + 4 * 12);
  new Float32Array(file.buffer, 4).set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  const tensor: Trained = {
    name: "p", vendor_name: "w", shape: [3, 4], dtype: "FLOAT",
    part: [{ axis: 0, indices: [0, 2] }, { axis: 1, indices: [1, 3] }],
    write_back: { how: "copied", stored: { location: null, offset: 4, length: 48 }, why: "" },
  };
  expect(Array.from(readNumbers(file, tensor))).toEqual([1, 3, 9, 11]);
  writeNumbers(file, tensor, Float64Array.of(-1, -3, -9, -11));
  expect(Array.from(new Float32Array(file.buffer, 4))).toEqual([0, -1, 2, -3, 4, 5, 6, 7, 8, -9, 10, -11]);
  expect(() => writeNumbers(file, tensor, Float64Array.of(1))).toThrow(/1 numbers/);
  expect(() => writeNumbers(file, tensor, Float64Array.of(1, 1e300, 1, 1))).toThrow(/does not fit/);
});

test("a blend is exact at its ends, and what did not move keeps its bits", () => {
  const [start, trained] = [Float32Array.of(0.1, -0, 3), Float32Array.of(0.7, -0, 1)];
  expect(Array.from(blended(start, trained, 0))).toEqual(Array.from(start));
  expect(Array.from(blended(start, trained, 1))).toEqual(Array.from(trained));
  const between = blended(start, trained, 0.25);
  expect(Object.is(between[1], -0)).toBe(true);
  expect(between[2]).toBe(2.5);
});

test("fields are found, and long lengths are written as they are read", () => {
  const message = joined(delimited(7, new Uint8Array(300)), delimited(14, delimited(1, text("tgdonnx.provenance.12"))));
  expect([...fieldsOf(message)].map(({ number, start, value, end }) => [number, start, value, end])).toEqual([
    [7, 0, 3, 303],
    [14, 303, 305, 328],
  ]);
  expect(earlierRounds(message)).toBe(12);
  expect(earlierRounds(delimited(14, delimited(1, text("tgdonnx.provenance.012"))))).toBe(0);
  expect(() => [...fieldsOf(message.subarray(0, 200))]).toThrow(/damaged/);
});

test("a state is read as it was written, and a byte that changed is told", async () => {
  const state = { updates: 7, tensors: new Map([["w é", { shape: [2, 1], values: Float32Array.of(1, -2) }], ["b", { shape: [], values: Float32Array.of(3) }]]) };
  const data = await writeState(state);
  expect(await readState(data)).toEqual(state);
  data[data.length - 1]! ^= 1;
  await expect(readState(data)).rejects.toThrow(/damaged/);
  await expect(readState(data.subarray(0, 5))).rejects.toThrow(/shorter/);
});
