/** Which kind of data was dropped. */
import type { Dropped } from "../artifacts/artifacts";
import type { Manifest } from "../artifacts/manifest";
import { Refusal } from "../refusal";
import { isArrayFile, openArrays } from "./arrays";
import { openClassFolders } from "./class_folders";
import type { Dataset } from "./dataset";
import { openPairs, type PictureOptions } from "./pairs";
import { isPicture } from "./pixels";

/** Opens data: arrays of NumPy, else a folder per class where targets are classes, else pairs. */
export async function openData(dropped: Dropped[], manifest: Manifest, options: PictureOptions): Promise<Dataset> {
  if (dropped.some(isArrayFile)) return openArrays(dropped, manifest, options.heldOut);
  if (!dropped.some(({ path }) => isPicture(path))) {
    throw new Refusal("There are no pictures in what was dropped (PNG, JPEG, WebP, BMP), and no .npz or .npy files.");
  }
  const target = manifest.inputs.find((spec) => spec.role === "target");
  return target?.dtype === "int64" ? openClassFolders(dropped, manifest, options) : openPairs(dropped, manifest, options);
}
