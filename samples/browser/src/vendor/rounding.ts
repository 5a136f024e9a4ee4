/** Numbers as the vendor's file stores them: float32, or rounded to float16, bfloat16, to the nearest, ties to even. */
import { Refusal } from "../refusal";

export interface Stored {
  bytes: number;
  read(view: DataView, at: number): number;
  write(view: DataView, at: number, value: number): void;
}

export const FORMATS: { [dtype: string]: Stored } = {
  FLOAT: {
    bytes: 4,
    read: (view, at) => view.getFloat32(at, true),
    write: (view, at, value) => view.setFloat32(at, value, true),
  },
  DOUBLE: {
    bytes: 8,
    read: (view, at) => view.getFloat64(at, true),
    write: (view, at, value) => view.setFloat64(at, value, true),
  },
  FLOAT16: {
    bytes: 2,
    read: (view, at) => fromHalf(view.getUint16(at, true)),
    write: (view, at, value) => view.setUint16(at, toHalf(value), true),
  },
  BFLOAT16: {
    bytes: 2,
    read: (view, at) => fromBrain(view.getUint16(at, true)),
    write: (view, at, value) => view.setUint16(at, toBrain(value), true),
  },
};

/** Returns how numbers of a type are stored. */
export function formatOf(dtype: string): Stored {
  const found = FORMATS[dtype];
  if (!found) throw new Refusal(`Numbers of the type ${dtype} cannot be written here: save the state, and use \`tgdonnx export\`.`);
  return found;
}

function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -14 * (fraction / 1024);
}

/** In one rounding from float64: rounding to float32 first would round some numbers twice. */
function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  // The spacing of halves near the number; below 2^-14 they are evenly spaced.
  const exponent = Math.max(Math.floor(Math.log2(size || 1)), -14);
  const exact = size < 2 ** exponent ? exponent - 1 : size >= 2 ** (exponent + 1) ? exponent + 1 : exponent;
  const scale = 2 ** (Math.max(exact, -14) - 10);
  const rounded = toEven(size / scale) * scale;
  if (rounded >= 65520) return sign | 0x7c00;
  if (rounded < 2 ** -14) return sign | Math.round(rounded / 2 ** -24);
  const power = Math.floor(Math.log2(rounded));
  return sign | ((power + 15) << 10) | Math.round((rounded / 2 ** power - 1) * 1024);
}

function toEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 ? below + 1 : below;
}

const scratch = new DataView(new ArrayBuffer(4));

function fromBrain(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** By way of float32, as numpy's type does. */
function toBrain(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
