/** The input of a model that takes pictures: how many channels, which size, and pictures as its numbers. */
import type { Spec } from "../artifacts/manifest";
import { Refusal } from "../refusal";
import type { Fed } from "./dataset";
import type { Pixels } from "./pixels";
import type { Scale } from "./scaling";

/** Returns how many channels pictures for an input have, N x C x H x W. */
export function channelsOf(spec: Spec): 1 | 3 {
  const channels = spec.shape?.[1];
  if (spec.dtype !== "float32" || spec.shape?.length !== 4 || (channels !== 1 && channels !== 3)) {
    const shape = spec.shape?.map((size) => size ?? "any").join(" x ") ?? "of any shape";
    throw new Refusal(
      `${spec.name} is ${spec.dtype}, ${shape}; pictures go into float32 of N x 1 x H x W or N x 3 x H x W. Give the data as .npz.`,
    );
  }
  return channels;
}

/** Returns height and width that an input fixes; null where any go. */
export function fixedSize(spec: Spec): { height: number; width: number } | null {
  const [height, width] = [spec.shape?.[2], spec.shape?.[3]];
  return height && width ? { height, width } : null;
}

/** Returns pictures of one size as N x C x H x W. */
export function fed(pictures: Pixels[], scale: Scale): Fed {
  const { height, width, channels } = pictures[0]!;
  const plane = height * width;
  const values = new Float32Array(pictures.length * channels * plane);
  pictures.forEach((picture, sample) => {
    for (let channel = 0; channel < channels; channel++) {
      const at = (sample * channels + channel) * plane;
      for (let pixel = 0; pixel < plane; pixel++) {
        values[at + pixel] = scale.apply(picture.values[pixel * channels + channel]!, channel);
      }
    }
  });
  return { values, shape: [pictures.length, channels, height, width] };
}
