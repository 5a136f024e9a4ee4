/** The tuned file: the vendor's bytes, with other numbers where something trained, and the record at its end. */
import type { Manifest } from "../artifacts/manifest";
import { whyNoExport } from "../artifacts/manifest";
import type { State } from "../artifacts/safetensors";
import { Refusal } from "../refusal";
import { blended } from "./blending";
import { readNumbers, writeNumbers } from "./places";
import { metadataEntry, recordOf, type Told } from "./record";
import { earlierRounds } from "./vendor_file";
import { joined } from "./wire";

/** Returns the tuned file of a state, at a blend. */
export function tunedFile(vendor: Uint8Array, manifest: Manifest, state: State, told: Told): Uint8Array {
  const why = whyNoExport(manifest);
  if (why) throw new Refusal(`More than overwriting bytes makes the tuned file (${why}). Save the state, and use \`tgdonnx export\`.`);
  const file = vendor.slice();
  for (const tensor of manifest.trained) {
    const { values } = state.tensors.get(tensor.name)!;
    if (!values.every(Number.isFinite)) throw new Refusal(`${tensor.name} holds NaN or infinity: training diverged. Start anew with a smaller learning rate.`);
    writeNumbers(file, tensor, blended(readNumbers(vendor, tensor), values, told.blend));
  }
  const key = `tgdonnx.provenance.${earlierRounds(vendor) + 1}`;
  return joined(file, metadataEntry(key, recordOf(manifest, told)));
}
