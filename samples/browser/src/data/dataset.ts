/** What training asks of data, whatever it comes from. */
import type { Preparation } from "../vendor/record";

/** The values of one input of a step, for a batch. */
export interface Fed {
  values: Float32Array | BigInt64Array;
  shape: number[];
}
export type Batch = Map<string, Fed>;

/** What a held-out sample looks like, for a person. */
export interface Look {
  name: string;
  /** How numbers of the input, and of the target where that is a picture, become values from 0 to 255. */
  toByte: (value: number, channel: number) => number;
}

export interface Dataset {
  /** Samples to train on, and held out. */
  train: number;
  held: number;
  /** What was found, in a sentence. */
  told: string;
  classes: string[];
  preparation: Preparation | null;
  /** A hash of what batches depend on: a run that was kept goes on with this data alone. */
  identity: string;
  /** Returns a batch of training samples. `step` seeds what is cut at random. */
  batch(samples: number[], step: number, seed: number): Promise<Batch>;
  /** Returns held-out samples as a batch. */
  heldBatch(samples: number[]): Promise<Batch>;
  look(sample: number): Look;
}
