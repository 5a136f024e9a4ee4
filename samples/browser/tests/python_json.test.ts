import { expect, test } from "vitest";
import { dumps, plain, read, repr } from "../src/artifacts/python_json";

test("floats are spelled as Python spells them", () => {
  const numbers: [number, string][] = [
    [1e-5, "1e-05"], [1e16, "1e+16"], [123456789012345680, "1.2345678901234568e+17"], [1e15, "1000000000000000.0"],
    [0.1, "0.1"], [1, "1.0"], [0.0001, "0.0001"], [0.00012, "0.00012"], [1.5e-7, "1.5e-07"], [1e22, "1e+22"],
    [-2.5, "-2.5"], [100, "100.0"], [1e300, "1e+300"], [5e-324, "5e-324"], [0.7209048871212411, "0.7209048871212411"], [-0, "-0.0"], [0, "0.0"],
  ];
  for (const [value, spelled] of numbers) expect(repr(value)).toBe(spelled);
});

test("what is read is written as json.dumps writes it, in the order of the file", () => {
  const text = '{"b": [1, 2.0, null, true], "a": "\\u00e9\\"\\\\\\n\\u007f\\ud83d\\ude00/", "12": 1e-05}';
  expect(dumps(read(text))).toBe(text);
  expect(dumps(read('{"12":1e-5,"a":[ ]}'))).toBe('{"12": 1e-05, "a": []}');
});

test("keys are sorted by code points", () => {
  expect(dumps(read('{"\u{1F600}":2,"\uff5a":1,"\u00e9":1,"b":1}'), true)).toBe('{"b": 1, "\\u00e9": 1, "\\uff5a": 1, "\\ud83d\\ude00": 2}');
});

test("values are those of JSON.parse", () => {
  const text = '{"a": [1, -2.5e3, {"b": null}], "c": "x"}';
  expect(plain(read(text))).toEqual(JSON.parse(text));
});

test.each(["", "{", "[1,]", "{\"a\" 1}", "[1] 2", "nul"])("what is no JSON is refused: %s", (text) => {
  expect(() => read(text)).toThrow(/no JSON/);
});
