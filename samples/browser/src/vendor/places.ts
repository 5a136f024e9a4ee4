/** Where the numbers of a parameter lie in the vendor's file: `part` and `write_back` of the manifest. */
import type { Trained } from "../artifacts/manifest";
import { Refusal } from "../refusal";
import { formatOf } from "./rounding";

/** Returns the numbers that the vendor's file has where a parameter trains, in the order of the parameter. */
export function readNumbers(vendor: Uint8Array, tensor: Trained): Float64Array {
  const format = formatOf(tensor.dtype);
  const view = viewOf(vendor, tensor);
  return Float64Array.from(elementsOf(tensor), (element) => format.read(view, element * format.bytes));
}

/** Puts numbers there. */
export function writeNumbers(file: Uint8Array, tensor: Trained, values: Float64Array): void {
  const format = formatOf(tensor.dtype);
  const view = viewOf(file, tensor);
  const elements = elementsOf(tensor);
  if (elements.length !== values.length) {
    throw new Refusal(`${tensor.name} has ${values.length} numbers, and the manifest has places for ${elements.length}.`);
  }
  elements.forEach((element, index) => {
    const value = values[index] as number;
    format.write(view, element * format.bytes, value);
    if (!Number.isFinite(format.read(view, element * format.bytes))) {
      throw new Refusal(`${tensor.vendor_name} has a number that does not fit the vendor's ${tensor.dtype}. Train with a smaller learning rate.`);
    }
  });
}

function viewOf(file: Uint8Array, tensor: Trained): DataView {
  const stored = tensor.write_back.stored;
  if (!stored || stored.offset + stored.length > file.length) {
    throw new Refusal(`The manifest has a place for ${tensor.vendor_name} that is not in the vendor's file. Build the artifacts again.`);
  }
  return new DataView(file.buffer, file.byteOffset + stored.offset, stored.length);
}

/** Returns which elements of the whole tensor, counted row-major, a parameter holds. */
function elementsOf(tensor: Trained): Uint32Array {
  const held = tensor.shape.map((size) => Array.from({ length: size }, (_, place) => place));
  for (const { axis, indices } of tensor.part ?? []) held[axis] = indices;
  const out = new Uint32Array(held.reduce((product, places) => product * places.length, 1));
  const strides = tensor.shape.map((_, axis) => tensor.shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  let count = 0;
  const walk = (axis: number, base: number): void => {
    if (axis === held.length) {
      out[count++] = base;
      return;
    }
    for (const place of held[axis] as number[]) walk(axis + 1, base + place * (strides[axis] as number));
  };
  walk(0, 0);
  return out;
}
