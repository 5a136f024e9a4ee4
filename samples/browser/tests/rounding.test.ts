import { expect, test } from "vitest";
import { formatOf } from "../src/vendor/rounding";

function bitsOf(dtype: string, value: number): number {
  const view = new DataView(new ArrayBuffer(8));
  formatOf(dtype).write(view, 0, value);
  return view.getUint16(0, true);
}

test("numbers become the halves of numpy, ties to even, in one rounding", () => {
  const halves: [number, number][] = [
    [0, 0], [-0, 32768], [1, 15360], [65504, 31743], [65519.99, 31743], [65520, 31744], [5.960464477539063e-8, 1],
    [2.9802322387695312e-8, 0], [2.980232238769532e-8, 1], [6.1e-5, 1023], [6.103515625e-5, 1024], [0.1, 11878], [1 / 3, 13653],
    [1.0004882812500002, 15361], [1.00048828125, 15360], [1.00146484375, 15362], [2049, 26624], [2051, 26626], [-3.14159265, 49736],
  ];
  for (const [value, bits] of halves) expect(bitsOf("FLOAT16", value)).toBe(bits);
});

test.each(["FLOAT16", "BFLOAT16"])("every finite number of %s is kept", (dtype) => {
  const view = new DataView(new ArrayBuffer(2));
  for (let bits = 0; bits < 65536; bits++) {
    view.setUint16(0, bits, true);
    const value = formatOf(dtype).read(view, 0);
    if (Number.isFinite(value) && bitsOf(dtype, value) !== bits) throw new Error(`${bits} became ${bitsOf(dtype, value)}`);
  }
});

test("bfloat16 rounds ties to even", () => {
  expect(bitsOf("BFLOAT16", 1 + 2 ** -8)).toBe(0x3f80);
  expect(bitsOf("BFLOAT16", 1 + 3 * 2 ** -8)).toBe(0x3f82);
});

test("other types are left to Python", () => {
  expect(() => formatOf("INT8")).toThrow(/tgdonnx export/);
});
