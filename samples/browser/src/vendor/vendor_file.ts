/**
 * The vendor's file, out of `masked.onnx` (its docstring in tgdonnx/masked_model specifies the format): without the masks at
 * the end of its graph and our metadata at its end. That it is the vendor's, to the byte, its SHA-256 in the manifest says.
 */
import { sha256 } from "../artifacts/hashing";
import { Refusal } from "../refusal";
import { delimited, fieldsOf, GRAPH, GRAPH_INPUT, INITIALIZER, joined, METADATA_PROPS, TENSOR_NAME, textIn, VALUE_INFO_NAME } from "./wire";

const SUFFIX = ".retrain_mask";
const OURS = ["tgdonnx.format", "tgdonnx.selection", "tgdonnx.base_sha256"];
const ENTRY_KEY = 1;

/** Returns the vendor's file: the one that is given, else out of the masked one. */
export async function vendorFile(given: Uint8Array | null, masked: Uint8Array, expected: string): Promise<Uint8Array> {
  const vendor = given ?? withoutAdditions(masked);
  const found = await sha256(vendor);
  if (found !== expected) {
    throw new Refusal(
      `${given ? "vendor.onnx" : "The vendor's file in masked.onnx"} is not the one of manifest.json: its SHA-256 is ${found}, expected ` +
        `${expected}. Both have to be of one build: drop the whole directory, or the whole zip.`,
    );
  }
  return vendor;
}

/** Returns how many rounds of training a file has been through, by the numbers of its records. */
export function earlierRounds(vendor: Uint8Array): number {
  let most = 0;
  for (const field of fieldsOf(vendor)) {
    if (field.number !== METADATA_PROPS) continue;
    const found = /^tgdonnx\.provenance\.([1-9]\d*)$/.exec(textIn(vendor, field, ENTRY_KEY));
    if (found) most = Math.max(most, Number(found[1]));
  }
  return most;
}

function withoutAdditions(masked: Uint8Array): Uint8Array {
  const kept: Uint8Array[] = [];
  for (const field of fieldsOf(masked)) {
    if (field.number === GRAPH && field.delimited) {
      const inside: Uint8Array[] = [];
      for (const inner of fieldsOf(masked, field.value, field.end)) {
        const named = { [INITIALIZER]: TENSOR_NAME, [GRAPH_INPUT]: VALUE_INFO_NAME }[inner.number];
        if (named !== undefined && textIn(masked, inner, named).endsWith(SUFFIX)) continue;
        inside.push(masked.subarray(inner.start, inner.end));
      }
      kept.push(delimited(GRAPH, ...inside));
    } else if (field.number !== METADATA_PROPS || !OURS.includes(textIn(masked, field, ENTRY_KEY))) {
      kept.push(masked.subarray(field.start, field.end));
    }
  }
  return joined(...kept);
}
