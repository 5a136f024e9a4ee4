/** The record of training at the end of a tuned file, in the spelling of `tgdonnx export` (tgdonnx/records, tgdonnx/exporting). */
import type { Manifest } from "../artifacts/manifest";
import { dumps, Real, Whole, type Json, type JsonObject } from "../artifacts/python_json";
import { delimited, METADATA_PROPS } from "./wire";

/** How pictures were made ready; null where arrays were taken as they are. */
export interface Preparation {
  /** By array: what `--scale` would be, and for 255 no mean and no standard deviation. */
  scaling: { [array: string]: { how: number | "imagenet"; mean: number[]; std: number[] } };
  resize: number[];
  crop: number[];
  colour: "grey" | "rgb";
}
export interface Told {
  blend: number;
  classes: string[];
  preparation: Preparation | null;
  /** The name of the file of the state that the numbers are from. */
  checkpoint: string;
}

/** Returns the text of the record. */
export function recordOf(manifest: Manifest, told: Told): string {
  const { text } = manifest;
  const trained: JsonObject = new Map();
  for (const tensor of text.get("trained") as JsonObject[]) {
    const name = tensor.get("vendor_name") as string;
    trained.set(name, new Map([...tensor].filter(([key]) => key === "retrain" || key === "kernels")));
  }
  const record: JsonObject = new Map<string, Json>([
    ["format", whole(told.preparation ? 4 : told.classes.length ? 3 : told.blend === 1 ? 1 : 2)],
    ["tgdonnx", (text.get("versions") as JsonObject).get("tgdonnx") as Json],
    ["base_sha256", text.get("base_sha256") as Json],
    ["selection", text.get("selection") as Json],
    ["options", text.get("options") as Json],
    ["checkpoint", told.checkpoint],
  ]);
  if (told.blend !== 1) record.set("blend", new Real(told.blend));
  if (told.classes.length) record.set("classes", told.classes);
  if (told.preparation) record.set("preparation", preparationOf(told.preparation));
  record.set("trained", trained);
  return dumps(record);
}

/** Returns the bytes of an entry of metadata, to stand at the end of a model. */
export function metadataEntry(key: string, value: string): Uint8Array {
  const encoder = new TextEncoder();
  return delimited(METADATA_PROPS, delimited(1, encoder.encode(key)), delimited(2, encoder.encode(value)));
}

function preparationOf(told: Preparation): JsonObject {
  const scaling: JsonObject = new Map();
  for (const [array, { how, mean, std }] of Object.entries(told.scaling)) {
    const entry: JsonObject = new Map<string, Json>([
      ["offset", new Real(0)],
      ["divisor", new Real(typeof how === "number" ? how : 255)],
      ["how", typeof how === "number" ? new Real(how) : how],
    ]);
    if (mean.length) {
      entry.set("mean", mean.map((each) => new Real(each)));
      entry.set("std", std.map((each) => new Real(each)));
    }
    scaling.set(array, entry);
  }
  const found: JsonObject = new Map<string, Json>([["scaling", scaling]]);
  if (told.resize.length) found.set("resize", told.resize.map(whole));
  if (told.crop.length) found.set("crop", told.crop.map(whole));
  found.set("colour", told.colour);
  return found;
}

function whole(value: number): Whole {
  return new Whole(String(value));
}
