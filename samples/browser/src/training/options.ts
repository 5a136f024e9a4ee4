/** How to train: what a person chooses in the page. */
import { Refusal } from "../refusal";

export interface TrainOptions {
  steps: number;
  batch: number;
  rate: number;
  schedule: "constant" | "cosine";
  seed: number;
  /** Steps between looks at held-out samples. */
  evaluateEvery: number;
  /** Steps between states that are kept in the browser: what killing the tab loses at most. */
  keepEvery: number;
}

/** Returns the options, the batch made to fit, after a look at them. */
export function checked(options: TrainOptions, samples: number, fixedBatch: number | null): TrainOptions {
  for (const name of ["steps", "batch", "evaluateEvery", "keepEvery"] as const) {
    if (!(Number.isInteger(options[name]) && options[name] >= 1)) throw new Refusal(`Expected a whole number of at least 1 for ${name}, got ${options[name]}.`);
  }
  if (!(options.rate > 0 && Number.isFinite(options.rate))) throw new Refusal(`Expected a learning rate above 0, got ${options.rate}.`);
  if (!Number.isInteger(options.seed)) throw new Refusal(`Expected a whole number for the seed, got ${options.seed}.`);
  if (fixedBatch !== null && samples < fixedBatch) {
    throw new Refusal(`The model takes batches of ${fixedBatch}, and there are ${samples} samples to train on. Give more, or hold out fewer.`);
  }
  return { ...options, batch: fixedBatch ?? Math.min(options.batch, samples) };
}

/** Returns the learning rate of a step, counted from 0. */
export function rateAt({ rate, schedule, steps }: TrainOptions, step: number): number {
  return schedule === "constant" ? rate : (rate * (1 + Math.cos((Math.PI * step) / steps))) / 2;
}
