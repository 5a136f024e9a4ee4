/** Bytes of pictures to the numbers that the model was trained on, as `--scale` of tgdonnx: computed in float64, rounded once. */
import type { Preparation } from "../vendor/record";

export type ScaleName = "255" | "1" | "imagenet";
export interface Scale {
  apply: (value: number, channel: number) => number;
  undo: (value: number, channel: number) => number;
  told: Preparation["scaling"][string];
}

const MEAN = [0.485, 0.456, 0.406];
const STD = [0.229, 0.224, 0.225];

/** Returns a way to scale. */
export function scaleOf(name: ScaleName): Scale {
  if (name === "imagenet") {
    return {
      apply: (value, channel) => (value / 255 - MEAN[channel]!) / STD[channel]!,
      undo: (value, channel) => 255 * (value * STD[channel]! + MEAN[channel]!),
      told: { how: "imagenet", mean: MEAN, std: STD },
    };
  }
  const divisor = Number(name);
  return {
    apply: (value) => value / divisor,
    undo: (value) => value * divisor,
    told: { how: divisor, mean: [], std: [] },
  };
}
