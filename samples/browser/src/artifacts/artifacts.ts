/** An artifacts directory, from dropped files or one zip file: found, complete, and of the right engine. */
import { Refusal } from "../refusal";
import { sha256 } from "./hashing";
import { readManifest, type Manifest } from "./manifest";
import { readState, type State } from "./safetensors";
import { isZip, unpack } from "./unpacking";

export interface Dropped {
  path: string;
  file: File;
}
export interface Artifacts {
  manifest: Manifest;
  state: State;
  step: Uint8Array;
  eval: Uint8Array;
  masked: Uint8Array;
  /** A step in two parts; null where this browser has no WebGPU, for which alone they are read. */
  parts: { gradients: Uint8Array; update: Uint8Array } | null;
  /** The vendor's file, which a zip of `build --zip` has; in a directory it is in the masked one alone. */
  vendor: Uint8Array | null;
  /** A hash of all of the above: a run that was kept belongs to these artifacts alone. */
  identity: string;
}

const NEEDED = ["step.onnx", "eval.onnx", "state.safetensors", "masked.onnx"] as const;
const PARTS = ["gradients.onnx", "update.onnx"] as const;

/** Opens what was dropped. */
export async function openArtifacts(dropped: Dropped[]): Promise<Artifacts> {
  const files = await filesOf(dropped);
  const manifests = [...files.keys()].filter((path) => path === "manifest.json" || path.endsWith("/manifest.json"));
  manifests.sort((a, b) => a.length - b.length);
  const at = manifests[0];
  if (at === undefined) {
    throw new Refusal(
      "There is no manifest.json in what was dropped, so these are no artifacts. Drop the directory that `tgdonnx build` made, " +
        "or the zip file of `tgdonnx build --zip`.",
    );
  }
  const root = at.slice(0, -"manifest.json".length);
  const manifestBytes = await files.get(at)!();
  const manifest = readManifest(manifestBytes);
  if (files.has(`${root}frozen.data`)) {
    throw new Refusal("This model has more than 1 GiB of frozen weights (frozen.data), too much for a page. Train it with Python.");
  }
  const found: Uint8Array[] = [];
  const hasWebgpu = "gpu" in navigator;
  for (const name of hasWebgpu ? [...NEEDED, ...PARTS] : NEEDED) {
    const open = files.get(root + name);
    if (!open) throw new Refusal(`The artifacts are incomplete: ${name} is missing. Drop the whole directory.`);
    found.push(await open());
  }
  const [step, evaluation, stateBytes, masked, gradients, update] = found as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, ...Uint8Array[]];
  const state = await readState(stateBytes);
  const without = manifest.trained.find((tensor) => !state.tensors.has(tensor.name));
  if (without) throw new Refusal(`state.safetensors has no ${without.name}: it is of other artifacts. Build them again.`);
  const identity = await sha256(manifestBytes, stateBytes, step, evaluation);
  const vendor = (await files.get(`${root}vendor.onnx`)?.()) ?? null;
  const parts = gradients && update ? { gradients, update } : null;
  return { manifest, state, step, eval: evaluation, masked, parts, vendor, identity };
}

async function filesOf(dropped: Dropped[]): Promise<Map<string, () => Promise<Uint8Array>>> {
  const [first] = dropped;
  if (dropped.length === 1 && first && !first.path.endsWith(".json")) {
    const data = await bytesOf(first.file);
    if (!isZip(data)) {
      throw new Refusal(
        `${first.file.name} is no zip file. Drop the directory that \`tgdonnx build\` made, or the zip file of \`tgdonnx build --zip\`.`,
      );
    }
    return new Map([...unpack(data, first.file.name)].map(([path, bytes]) => [path, async () => bytes]));
  }
  return new Map(dropped.map(({ path, file }) => [path, () => bytesOf(file)]));
}

async function bytesOf(file: File): Promise<Uint8Array> {
  return new Uint8Array(await file.arrayBuffer());
}
