/** NumPy's .npy files, and .npz files, which are zip files of them. */
import { unpack } from "../artifacts/unpacking";
import { Refusal } from "../refusal";

export interface Numbers {
  dtype: string;
  shape: number[];
  values: Float32Array | Float64Array | BigInt64Array | Int32Array | Uint16Array | Uint8Array;
}

const TYPES = {
  "<f4": Float32Array,
  "<f8": Float64Array,
  "<i8": BigInt64Array,
  "<i4": Int32Array,
  "<u2": Uint16Array,
  "|u1": Uint8Array,
  "|b1": Uint8Array,
} as const;

/** Reads an array. */
export function readNpy(data: Uint8Array, name: string): Numbers {
  const magic = String.fromCharCode(...data.subarray(1, 6));
  if (data[0] !== 0x93 || magic !== "NUMPY") throw new Refusal(`${name} is no file of NumPy.`);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [length, begin] = data[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  const header = new TextDecoder("latin1").decode(data.subarray(begin, begin + length));
  const dtype = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? "?";
  const sizes = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  const Type = TYPES[dtype as keyof typeof TYPES];
  if (!Type || sizes === undefined) {
    throw new Refusal(`${name} holds ${dtype}, and this page reads ${Object.keys(TYPES).join(", ")}. Save it as one of these.`);
  }
  if (/'fortran_order':\s*True/.test(header)) throw new Refusal(`${name} is in Fortran's order. Save numpy.ascontiguousarray(array).`);
  const shape = sizes.split(",").filter((size) => size.trim()).map(Number);
  const count = shape.reduce((product, size) => product * size, 1);
  const bytes = data.slice(begin + length);
  if (bytes.length < count * Type.BYTES_PER_ELEMENT) throw new Refusal(`${name} is shorter than its header says. Was it copied whole?`);
  return { dtype, shape, values: new Type(bytes.buffer, 0, count) };
}

/** Reads all arrays of an .npz file. */
export function readNpz(data: Uint8Array, name: string): Map<string, Numbers> {
  const found = new Map<string, Numbers>();
  for (const [path, bytes] of unpack(data, name)) {
    if (path.endsWith(".npy")) found.set(path.slice(0, -".npy".length), readNpy(bytes, `${path} in ${name}`));
  }
  return found;
}
