/** What the page and its worker say to each other. */
import type { Dropped } from "./artifacts/artifacts";
import type { PictureOptions } from "./data/pairs";
import type { Look } from "./training/held_out";
import type { Measured } from "./training/keeping";
import type { TrainOptions } from "./training/options";
import type { Which } from "./training/run";
import type { Device } from "./training/webgpu";

export type ToWorker =
  | { kind: "artifacts"; dropped: Dropped[] }
  | { kind: "data"; dropped: Dropped[]; options: PictureOptions }
  | { kind: "start"; options: TrainOptions; device: Device }
  | { kind: "goOn"; steps: number; device: Device }
  | { kind: "stop" }
  | { kind: "blend"; blend: number; which: Which }
  | { kind: "saveTuned"; blend: number; which: Which }
  | { kind: "saveState"; which: Which };

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
  /** The step with the lowest loss of held-out samples; null where none was measured. */
  best: number | null;
  saved: number;
}

export type FromWorker =
  | { kind: "runtime"; told: string }
  | { kind: "artifacts"; told: ArtifactsTold }
  | { kind: "data"; told: string; held: number; classes: string[]; kept: RunTold | null; keptNot: string | null }
  | { kind: "ready"; run: RunTold; start: Look | null }
  | { kind: "step"; step: number; loss: number; seconds: number }
  | { kind: "look"; at: Measured; look: Look; best: number }
  | { kind: "blend"; blend: number; which: Which; look: Look | null }
  | { kind: "stopped"; step: number; why: string }
  | { kind: "file"; name: string; bytes: Uint8Array<ArrayBuffer> }
  | { kind: "failed"; during: ToWorker["kind"] | "loading"; sentence: string };
