import { zipSync } from "fflate";
import { expect, test } from "vitest";
import { readNpy, readNpz } from "../src/data/npy";
import { batchAt, orderOf, split } from "../src/data/order";
import { resized } from "../src/data/resizing";
import pillow from "./pillow.json";

function npy(descr: string, shape: string, body: Uint8Array, order = "False"): Uint8Array {
  const header = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${shape}), }\n`;
  const bytes = new Uint8Array(10 + header.length + body.length);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, header.length & 255, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  bytes.set(body, 10 + header.length);
  return bytes;
}

test("arrays of NumPy are read, alone and in a zip file", () => {
  const file = npy("<f4", "2, 3", new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6.5).buffer));
  expect(readNpy(file, "x.npy")).toEqual({ dtype: "<f4", shape: [2, 3], values: Float32Array.of(1, 2, 3, 4, 5, 6.5) });
  const labels = npy("<i8", "2,", new Uint8Array(BigInt64Array.of(-1n, 7n).buffer));
  const found = readNpz(zipSync({ "x.npy": file, "target.npy": labels }), "train.npz");
  expect([...found.keys()]).toEqual(["x", "target"]);
  expect(found.get("target")?.values).toEqual(BigInt64Array.of(-1n, 7n));
});

test("what cannot be read is named, with the remedy", () => {
  expect(() => readNpy(npy(">f4", "1,", new Uint8Array(4)), "x.npy")).toThrow(/x\.npy holds >f4/);
  expect(() => readNpy(npy("<f4", "2, 2", new Uint8Array(16), "True"), "x.npy")).toThrow(/ascontiguousarray/);
  expect(() => readNpy(npy("<f4", "4,", new Uint8Array(8)), "x.npy")).toThrow(/shorter than its header/);
  expect(() => readNpy(new Uint8Array(64), "x.npy")).toThrow(/no file of NumPy/);
  expect(() => readNpz(new Uint8Array(64), "x.npz")).toThrow(/no zip file/);
});

test("an epoch has every sample once, and another order than the next", () => {
  const [first, second] = [orderOf(9, 1, 0), orderOf(9, 1, 1)];
  for (const order of [first, second]) expect([...order].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  expect(first).not.toEqual(second);
  expect([...batchAt(0, 9, 4, 1), ...batchAt(1, 9, 4, 1)]).toEqual(first.slice(0, 8));
  expect(batchAt(2, 9, 4, 1)).toEqual(second.slice(0, 4));
});

test("held-out samples are spread evenly, and one is always left to train on", () => {
  expect(split(12, 3)).toEqual({ train: [0, 1, 2, 4, 5, 6, 8, 9, 10], held: [3, 7, 11] });
  expect(split(3, 0)).toEqual({ train: [0, 1, 2], held: [] });
  expect(split(3, 9).train).toHaveLength(1);
  expect(split(1, 4)).toEqual({ train: [0], held: [] });
});

test("pictures are resized as Pillow resizes them", () => {
  const given = { height: pillow.height, width: pillow.width, channels: 3 as const, values: Uint8Array.from(pillow.values) };
  for (const { height, width, values } of pillow.resized) expect(Array.from(resized(given, height, width).values)).toEqual(values);
});
