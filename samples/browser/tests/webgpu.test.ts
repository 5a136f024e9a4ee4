import { expect, test } from "vitest";
import { difference, MOST_DIFFERENCE } from "../src/training/webgpu";
import type { Gradient } from "../src/training/gradient_session";

function gradient(loss: number, sums: { [parameter: string]: number[] }): Gradient {
  const entries = Object.entries(sums).map(([name, values]): [string, { values: Float32Array; shape: number[] }] => [
    `tgdonnx::${name}.sum`,
    { values: Float32Array.from(values), shape: [values.length] },
  ]);
  return { loss, sums: new Map(entries) };
}

const EXPECTED = gradient(2, { w: [4, -8], b: [0.001, 0.002], none: [1e-12, 0] });

test("what differs most is told as a share of the largest number of its parameter", () => {
  const found = difference(gradient(2, { w: [4, -8.002], b: [0.001, 0.003], none: [1e-12, 0] }), EXPECTED);
  expect(found.where).toBe("b");
  expect(found.share).toBeCloseTo(0.5, 5);
  expect(difference(gradient(2.5, { w: [4, -8], b: [0.001, 0.002], none: [1e-12, 0] }), EXPECTED)).toEqual({ share: 0.25, where: "the loss" });
});

test("the same gradient differs by nothing, and what rounding left in place of zero is none", () => {
  expect(difference(EXPECTED, EXPECTED).share).toBe(0);
  const rounded = gradient(2, { w: [4, -8], b: [0.001, 0.002], none: [-1e-12, 1e-12] });
  expect(difference(rounded, EXPECTED).share).toBeLessThan(MOST_DIFFERENCE);
});

test("NaN is never near enough, wherever it stands", () => {
  for (const found of [
    gradient(NaN, { w: [4, -8], b: [0.001, 0.002], none: [0, 0] }),
    gradient(2, { w: [NaN, -8], b: [0.001, 0.002], none: [0, 0] }),
    gradient(2, { w: [4, -8], b: [0.001, 0.002], none: [0, NaN] }),
  ]) {
    expect(difference(found, EXPECTED).share <= MOST_DIFFERENCE).toBe(false);
  }
});
