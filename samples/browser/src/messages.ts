/** What the page and its worker say to each other. */
import type { Dropped } from "./artifacts/artifacts";
import type { PictureOptions } from "./data/pairs";
import type { Look } from "./training/held_out";
import type { Measured } from "./training/keeping";
import type { TrainOptions } from "./training/options";

export type ToWorker =
  | { kind: "artifacts"; dropped: Dropped[] }
  | { kind: "data"; dropped: Dropped[]; options: PictureOptions }
  | { kind: "start"; options: TrainOptions }
  | { kind: "goOn"; steps: number }
  | { kind: "stop" }
  | { kind: "blend"; blend: number }
  | { kind: "saveTuned"; blend: number }
  | { kind: "saveState" };

export interface ArtifactsTold {
  model: string;
  loss: string;
  metric: string | null;
  tensors: number;
  rho: number;
  mode: string;
  input: string;
  takesClasses: boolean;
  fixedSize: string | null;
  /** Why no tuned file can be saved; null where it can. */
  whyNoTuned: string | null;
}
export interface RunTold {
  step: number;
  options: TrainOptions;
  losses: number[];
  evaluations: Measured[];
  saved: number;
}

export type FromWorker =
  | { kind: "runtime"; threads: number; why: string }
  | { kind: "artifacts"; told: ArtifactsTold }
  | { kind: "data"; told: string; held: number; classes: string[]; kept: RunTold | null; keptNot: string | null }
  | { kind: "ready"; run: RunTold; start: Look | null }
  | { kind: "step"; step: number; loss: number; seconds: number }
  | { kind: "look"; at: Measured; look: Look }
  | { kind: "blend"; blend: number; look: Look | null }
  | { kind: "stopped"; step: number; why: string }
  | { kind: "file"; name: string; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "failed"; during: ToWorker["kind"] | "loading"; sentence: string };
