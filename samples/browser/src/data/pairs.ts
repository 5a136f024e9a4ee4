/** Pairs of pictures: two folders, the same file names in both. Patches are cut at random places, the same of both. */
import type { Dropped } from "../artifacts/artifacts";
import type { Manifest } from "../artifacts/manifest";
import { Refusal } from "../refusal";
import type { Batch, Dataset } from "./dataset";
import { identityOf, picturesIn, type Entry } from "./folders";
import { randomFrom, split } from "./order";
import { channelsOf, fed, fixedSize } from "./picture_input";
import { PixelCache, type Pixels } from "./pixels";
import { cut } from "./resizing";
import { scaleOf, type ScaleName } from "./scaling";

export interface PictureOptions {
  scale: ScaleName;
  /** Side of the patches, or of the pictures that a classifier is given. */
  size: number;
  heldOut: number;
}
interface Pair {
  input: Entry;
  target: Entry;
}

const INPUTS = /^(noisy|input|inputs|image|images|x|low|before)$/i;
const TARGETS = /^(clean|target|targets|y|gt|truth|high|after)$/i;
/** Held-out pictures are shown and measured in a part of this side, in the middle: a whole one could fill the memory. */
const HELD_SIDE = 256;

/** Opens pairs. */
export async function openPairs(dropped: Dropped[], manifest: Manifest, options: PictureOptions): Promise<Dataset> {
  const [spec, targetSpec] = manifest.inputs;
  if (manifest.inputs.length !== 2 || !spec || !targetSpec || targetSpec.dtype !== "float32") {
    throw new Refusal("Pairs of pictures go with a model of one input and one output that is compared with a picture. Give the data as .npz.");
  }
  const channels = channelsOf(spec);
  if (channelsOf(targetSpec) !== channels) throw new Refusal("The input and the output have different numbers of channels. Give the data as .npz.");
  const { entries, separate } = picturesIn(dropped);
  const pairs = paired(entries, [spec.name, spec.vendor_name], [targetSpec.name, targetSpec.vendor_name]);
  const all = (held: boolean): Pair[] => pairs.filter(({ input }) => input.held === held);
  const parts = split(pairs.length, options.heldOut);
  const [train, held] = separate ? [all(false), all(true)] : [parts.train.map((i) => pairs[i]!), parts.held.map((i) => pairs[i]!)];
  if (!train.length) throw new Refusal("No pair is left to train on: all are held out.");
  const cache = new PixelCache(channels);
  const scale = scaleOf(options.scale);
  const fixed = fixedSize(spec);
  const patch = fixed ?? { height: options.size, width: options.size };
  const pixelsOf = async ({ input, target }: Pair): Promise<[Pixels, Pixels, number]> => {
    const [first, second] = [await cache.of(input.file), await cache.of(target.file)];
    const factor = second.height / first.height;
    if (!Number.isInteger(factor) || second.width !== factor * first.width) {
      throw new Refusal(
        `${input.folder}/${input.name} is ${first.width} x ${first.height}, and ${target.folder}/${target.name} ${second.width} x ` +
          `${second.height}: a pair has one size, or the second is a whole number of times larger.`,
      );
    }
    return [first, second, factor];
  };
  const toBatch = (cuts: [Pixels, Pixels][]): Batch =>
    new Map([
      [spec.name, fed(cuts.map(([input]) => input), scale)],
      [targetSpec.name, fed(cuts.map(([, target]) => target), scale)],
    ]);
  const cutBoth = (pixels: [Pixels, Pixels, number], top: number, left: number, height: number, width: number): [Pixels, Pixels] => {
    const [input, target, factor] = pixels;
    return [cut(input, top, left, height, width), cut(target, factor * top, factor * left, factor * height, factor * width)];
  };
  // The first step would find out, too; but what is wrong is said before anyone waits.
  for (const pair of pairs) {
    const [input] = await pixelsOf(pair);
    if (input.height < patch.height || input.width < patch.width) {
      throw new Refusal(
        `${pair.input.folder}/${pair.input.name} is ${input.width} x ${input.height}, smaller than the ${fixed ? "model's input" : "patches"} of ` +
          `${patch.width} x ${patch.height}. ${fixed ? "Leave it out" : "Take smaller patches, or leave it out"}.`,
      );
    }
  }
  return {
    train: train.length,
    held: held.length,
    told: `${train.length} pairs of pictures to train on, in patches of ${patch.width} x ${patch.height}; ${held.length} held out`,
    classes: [],
    preparation: {
      scaling: options.scale === "1" ? {} : { [spec.name]: scale.told, [targetSpec.name]: scale.told },
      resize: [],
      crop: [],
      colour: channels === 1 ? "grey" : "rgb",
    },
    identity: await identityOf([...train, ...held].flatMap(({ input, target }) => [input, target]), [options, train.length]),
    batch: async (samples, step, seed) => {
      const random = randomFrom(Math.imul(seed + 1, 7368787) + step);
      const cuts: [Pixels, Pixels][] = [];
      for (const sample of samples) {
        const pixels = await pixelsOf(train[sample]!);
        const top = Math.floor(random() * (pixels[0].height - patch.height + 1));
        const left = Math.floor(random() * (pixels[0].width - patch.width + 1));
        cuts.push(cutBoth(pixels, top, left, patch.height, patch.width));
      }
      return toBatch(cuts);
    },
    heldBatch: async (samples) => {
      const cuts: [Pixels, Pixels][] = [];
      for (const sample of samples) {
        const pixels = await pixelsOf(held[sample]!);
        const [height, width] = fixed
          ? [fixed.height, fixed.width]
          : [Math.min(pixels[0].height, HELD_SIDE), Math.min(pixels[0].width, HELD_SIDE)];
        const [top, left] = [Math.floor((pixels[0].height - height) / 2), Math.floor((pixels[0].width - width) / 2)];
        cuts.push(cutBoth(pixels, top, left, height, width));
      }
      return toBatch(cuts);
    },
    look: (sample) => ({ name: held[sample]!.input.name, toByte: scale.undo }),
  };
}

function paired(entries: Entry[], inputs: (string | null)[], targets: (string | null)[]): Pair[] {
  const folders = [...new Set(entries.map(({ folder }) => folder))];
  const one = (names: (string | null)[], usual: RegExp): string | undefined =>
    folders.find((folder) => names.includes(folder)) ?? folders.find((folder) => usual.test(folder));
  const [input, target] = [one(inputs, INPUTS), one(targets, TARGETS)];
  if (input === undefined || target === undefined || input === target) {
    throw new Refusal(
      `Pairs lie in two folders, noisy and clean (or ${inputs[0]} and ${targets[0]}), with the same file names in both. ` +
        `The folders with pictures here: ${folders.join(", ") || "none"}.`,
    );
  }
  const stem = ({ held, name }: Entry): string => `${held}/${name.replace(/\.[^.]*$/, "")}`;
  const partners = new Map(entries.filter(({ folder }) => folder === target).map((entry) => [stem(entry), entry]));
  return entries
    .filter(({ folder }) => folder === input)
    .map((entry) => {
      const partner = partners.get(stem(entry));
      if (!partner) throw new Refusal(`${input}/${entry.name} has no partner of that name in ${target}.`);
      return { input: entry, target: partner };
    });
}
