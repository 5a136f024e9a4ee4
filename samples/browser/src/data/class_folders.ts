/** Pictures in one folder per class. Each is resized, its shorter side first, and its centre is cut. */
import type { Dropped } from "../artifacts/artifacts";
import type { Manifest } from "../artifacts/manifest";
import { byCodePoint } from "../artifacts/python_json";
import { Refusal } from "../refusal";
import type { Batch, Dataset } from "./dataset";
import { identityOf, picturesIn, type Entry } from "./folders";
import { split } from "./order";
import type { PictureOptions } from "./pairs";
import { channelsOf, fed, fixedSize } from "./picture_input";
import { PixelCache, type Pixels } from "./pixels";
import { cut, resized } from "./resizing";
import { scaleOf } from "./scaling";

/** Opens class folders. */
export async function openClassFolders(dropped: Dropped[], manifest: Manifest, options: PictureOptions): Promise<Dataset> {
  const [spec, targetSpec] = manifest.inputs;
  if (manifest.inputs.length !== 2 || !spec || !targetSpec || targetSpec.shape?.length !== 1) {
    throw new Refusal("Folders of classes go with a model of one input and one class per picture. Give the data as .npz.");
  }
  const channels = channelsOf(spec);
  const { height, width } = fixedSize(spec) ?? { height: options.size, width: options.size };
  const { entries, separate } = picturesIn(dropped);
  const classes = inOrder(new Set(entries.map(({ folder }) => folder)));
  if (targetSpec.classes !== null && classes.length !== targetSpec.classes) {
    throw new Refusal(`The model tells ${targetSpec.classes} classes apart, and there are ${classes.length} folders with pictures: ${classes.join(", ")}.`);
  }
  const parts = split(entries.length, options.heldOut);
  const [train, held] = separate
    ? [entries.filter((entry) => !entry.held), entries.filter((entry) => entry.held)]
    : [parts.train.map((i) => entries[i]!), parts.held.map((i) => entries[i]!)];
  if (!train.length) throw new Refusal("No picture is left to train on: all are held out.");
  const cache = new PixelCache(channels);
  const scale = scaleOf(options.scale);
  const ready = async (entry: Entry): Promise<Pixels> => {
    const picture = await cache.of(entry.file);
    const short = Math.max(height, width);
    const portrait = picture.height > picture.width;
    const long = Math.trunc((short * Math.max(picture.height, picture.width)) / Math.min(picture.height, picture.width));
    const larger = resized(picture, portrait ? long : short, portrait ? short : long);
    return cut(larger, Math.round((larger.height - height) / 2), Math.round((larger.width - width) / 2), height, width);
  };
  const toBatch = async (chosen: Entry[]): Promise<Batch> => {
    const pictures: Pixels[] = [];
    for (const entry of chosen) pictures.push(await ready(entry));
    const labels = BigInt64Array.from(chosen, ({ folder }) => BigInt(classes.indexOf(folder)));
    return new Map([
      [spec.name, fed(pictures, scale)],
      [targetSpec.name, { values: labels, shape: [chosen.length] }],
    ]);
  };
  return {
    train: train.length,
    held: held.length,
    told: `${train.length} pictures of ${classes.length} classes to train on, ${held.length} held out, each ${width} x ${height}`,
    classes,
    preparation: {
      scaling: options.scale === "1" ? {} : { [spec.name]: scale.told },
      resize: [Math.max(height, width)],
      crop: [height, width],
      colour: channels === 1 ? "grey" : "rgb",
    },
    identity: await identityOf([...train, ...held], [options, classes, train.length]),
    batch: (samples) => toBatch(samples.map((sample) => train[sample]!)),
    heldBatch: (samples) => toBatch(samples.map((sample) => held[sample]!)),
    look: (sample) => ({ name: held[sample]!.name, toByte: scale.undo }),
  };
}

/** Sorts names of classes as tgdonnx does: whole numbers by number, then the others as text. */
function inOrder(names: Set<string>): string[] {
  const numbers = [...names].filter((name) => /^\d+$/.test(name));
  const others = [...names].filter((name) => !/^\d+$/.test(name));
  return [...numbers.sort((a, b) => Number(a) - Number(b) || byCodePoint(a, b)), ...others.sort(byCodePoint)];
}
