/**
 * JSON as Python writes it. Records and checksums are of texts that `json.dumps` gives, so 1.0 has to stay 1.0, and 1e-05 to
 * be written so. Numbers with a fraction or an exponent are read as `Real`, others as they are spelled. Objects are maps: of an
 * object of JavaScript, keys such as "12" would come first.
 */
import { Refusal } from "../refusal";

export class Real {
  constructor(readonly value: number) {}
}
export class Whole {
  constructor(readonly digits: string) {}
}
export type JsonObject = Map<string, Json>;
export type Json = null | boolean | string | Real | Whole | Json[] | JsonObject;

const TOKEN = /\s*(?:([[\]{},:])|(true|false|null)|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?))/y;

/** Reads JSON. */
export function read(text: string): Json {
  let at = 0;
  const next = (): { kind: "mark" | "word" | "text" | "number"; said: string } => {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(text);
    if (!found) throw new Refusal(`It is no JSON: nothing that can be read at character ${at}.`);
    at = TOKEN.lastIndex;
    if (found[1] !== undefined) return { kind: "mark", said: found[1] };
    if (found[2] !== undefined) return { kind: "word", said: found[2] };
    if (found[3] !== undefined) return { kind: "text", said: found[3] };
    return { kind: "number", said: found[4] ?? "" };
  };
  const peek = (): string => {
    const before = at;
    const { said } = next();
    at = before;
    return said;
  };
  const expect = (mark: string): void => {
    const { said } = next();
    if (said !== mark) throw new Refusal(`It is no JSON: ${said} where ${mark} was expected, before character ${at}.`);
  };
  const value = (): Json => {
    const { kind, said } = next();
    if (kind === "text") return JSON.parse(said) as string;
    if (kind === "word") return said === "null" ? null : said === "true";
    if (kind === "number") return /[.eE]/.test(said) ? new Real(Number(said)) : new Whole(said);
    if (said === "[") return list();
    if (said === "{") return object();
    throw new Refusal(`It is no JSON: ${said} where a value was expected, before character ${at}.`);
  };
  const list = (): Json[] => {
    const found: Json[] = [];
    if (peek() === "]") return expect("]"), found;
    for (;;) {
      found.push(value());
      if (peek() === "]") return expect("]"), found;
      expect(",");
    }
  };
  const object = (): JsonObject => {
    const found: JsonObject = new Map();
    if (peek() === "}") return expect("}"), found;
    for (;;) {
      const { kind, said } = next();
      if (kind !== "text") throw new Refusal(`It is no JSON: ${said} where a key was expected.`);
      expect(":");
      found.set(JSON.parse(said) as string, value());
      if (peek() === "}") return expect("}"), found;
      expect(",");
    }
  };
  const found = value();
  if (text.slice(at).trim()) throw new Refusal(`It is no JSON: there is more behind its end, at character ${at}.`);
  return found;
}

/** Returns plain values: numbers of JavaScript in place of `Real` and `Whole`. */
export function plain(json: Json): unknown {
  if (json instanceof Real) return json.value;
  if (json instanceof Whole) return Number(json.digits);
  if (Array.isArray(json)) return json.map(plain);
  if (json instanceof Map) return Object.fromEntries([...json].map(([key, value]) => [key, plain(value)]));
  return json;
}

/** Returns what `json.dumps(value)` gives; `sorted` as its `sort_keys`. */
export function dumps(json: Json, sorted = false): string {
  if (json === null) return "null";
  if (typeof json === "boolean") return String(json);
  if (typeof json === "string") return quoted(json);
  if (json instanceof Real) return repr(json.value);
  if (json instanceof Whole) return json.digits;
  if (Array.isArray(json)) return `[${json.map((each) => dumps(each, sorted)).join(", ")}]`;
  const entries = [...json];
  if (sorted) entries.sort(([a], [b]) => byCodePoint(a, b));
  return `{${entries.map(([key, value]) => `${quoted(key)}: ${dumps(value, sorted)}`).join(", ")}}`;
}

/** Compares texts as Python sorts them: by code points, where JavaScript has units of 16 bits. */
export function byCodePoint(a: string, b: string): number {
  const [first, second] = [Array.from(a), Array.from(b)];
  for (let i = 0; i < Math.min(first.length, second.length); i++) {
    const difference = (first[i] as string).codePointAt(0)! - (second[i] as string).codePointAt(0)!;
    if (difference) return difference;
  }
  return first.length - second.length;
}

/** Returns Python's `repr` of a float that is finite. */
export function repr(value: number): string {
  if (Object.is(value, -0)) return "-0.0";
  const [digits = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 16) {
    const fixed = plainDigits(digits, exponent);
    return fixed.includes(".") ? fixed : `${fixed}.0`;
  }
  const size = Math.abs(exponent);
  return `${digits}e${exponent < 0 ? "-" : "+"}${size < 10 ? "0" : ""}${size}`;
}

function plainDigits(mantissa: string, exponent: number): string {
  const sign = mantissa.startsWith("-") ? "-" : "";
  const digits = mantissa.replace(/[-.]/g, "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  const rest = digits.slice(exponent + 1);
  return sign + whole + (rest ? `.${rest}` : "");
}

const SHORT: { [key: string]: string } = { '"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f" };

function quoted(text: string): string {
  let out = "";
  for (let i = 0; i < text.length; i++) {
    const letter = text[i] as string;
    const code = text.charCodeAt(i);
    out += SHORT[letter] ?? (code < 0x20 || code > 0x7e ? `\\u${code.toString(16).padStart(4, "0")}` : letter);
  }
  return `"${out}"`;
}
