/** The parameters at a blend, as the artifacts take them: the numbers that `exporting.ts` would write, so what is shown is what is saved. */
import type { Manifest } from "../artifacts/manifest";
import type { State } from "../artifacts/safetensors";
import { blended } from "../vendor/blending";
import { readNumbers } from "../vendor/places";
import { FORMATS } from "../vendor/rounding";

/** Returns what training started from: the vendor's numbers where the parameters are those of its file, else the artifacts' own. */
export function startOf(manifest: Manifest, vendor: Uint8Array | null, own: State): State {
  if (!vendor) return own;
  const tensors = new Map(own.tensors);
  for (const tensor of manifest.trained) {
    const { shape } = own.tensors.get(tensor.name)!;
    tensors.set(tensor.name, { shape, values: Float32Array.from(readNumbers(vendor, tensor)) });
  }
  return { tensors, updates: 0 };
}

/** Returns a state with the parameters at a blend; what the optimizer remembers is no part of it. */
export function blendedState(start: State, trained: State, manifest: Manifest, blend: number): State {
  const tensors: State["tensors"] = new Map();
  const view = new DataView(new ArrayBuffer(8));
  for (const { name, dtype } of manifest.trained) {
    const { shape, values } = trained.tensors.get(name)!;
    const format = FORMATS[dtype];
    const numbers = Float32Array.from(blended(start.tensors.get(name)!.values, values, blend), (value) => {
      if (!format || dtype === "FLOAT") return value;
      format.write(view, 0, value);
      return format.read(view, 0);
    });
    tensors.set(name, { shape, values: numbers });
  }
  return { tensors, updates: trained.updates };
}
