/** `manifest.json` of an artifacts directory, format 3 (tgdonnx/artifacts/manifest.py): what of it this page needs. */
import { Refusal } from "../refusal";
import { plain, read, type Json, type JsonObject } from "./python_json";

export interface Spec {
  name: string;
  dtype: string;
  shape: (number | null)[] | null;
  classes: number | null;
  vendor_name: string | null;
  role: "input" | "target" | "weights";
}
export interface Head {
  output: string;
  target: string;
  loss: string;
  class_axis: number | null;
}
export interface Stored {
  location: string | null;
  offset: number;
  length: number;
}
export interface Trained {
  name: string;
  vendor_name: string;
  shape: number[];
  dtype: string;
  part: { axis: number; indices: number[] }[] | null;
  write_back: { how: "copied" | "rounded" | "export"; stored: Stored | null; why: string };
}
export interface Manifest {
  base_sha256: string;
  rho: number;
  options: { loss: string; data_range: number; form: string };
  selection: { mode?: string };
  inputs: Spec[];
  heads: Head[];
  trained: Trained[];
  /** The same, spelled as it is in the file: the record of training repeats parts of it. */
  text: JsonObject;
}

/** Reads a manifest, and refuses what this page cannot train. */
export function readManifest(data: Uint8Array): Manifest {
  let text: Json;
  try {
    text = read(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch (error) {
    throw new Refusal(`manifest.json cannot be read: ${(error as Error).message} Build the artifacts again.`);
  }
  if (!(text instanceof Map)) throw new Refusal("manifest.json is damaged: it is no object. Build the artifacts again.");
  const found = plain(text) as Record<string, unknown>;
  const format = found.format;
  if (typeof format !== "number" || format > 3) {
    throw new Refusal(`manifest.json has format ${String(format)}, and this page reads format 3: take a newer page.`);
  }
  if (format < 3) throw new Refusal(`These artifacts have format ${format}, of an earlier version. Build them again.`);
  const engine = found.engine ?? "onnxruntime-training";
  if (engine !== "onnxruntime") {
    throw new Refusal(
      `These artifacts are of the engine ${String(engine)}, which no browser has. Build them again with --engine onnxruntime.`,
    );
  }
  for (const key of ["base_sha256", "options", "selection", "inputs", "heads", "trained"]) {
    if (!(key in found)) throw new Refusal(`manifest.json is damaged: it has no ${key}. Build the artifacts again.`);
  }
  return { ...(found as unknown as Manifest), text: text as JsonObject };
}

/** Returns why no tuned file can be made of the state by overwriting bytes; null where it can. */
export function whyNoExport(manifest: Manifest): string | null {
  const other = manifest.trained.find((tensor) => tensor.write_back.how === "export");
  if (other) return `${other.vendor_name}: ${other.write_back.why}`;
  const outside = manifest.trained.find((tensor) => tensor.write_back.stored?.location != null);
  return outside ? `${outside.vendor_name} lies in external data, ${outside.write_back.stored?.location}` : null;
}

/** Returns the batch size that the model fixes; null if any goes. */
export function fixedBatch(manifest: Manifest): number | null {
  return manifest.inputs.find((spec) => spec.role === "input" && spec.shape?.length)?.shape?.[0] ?? null;
}
