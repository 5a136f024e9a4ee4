/** A run: steps, looks at held-out samples, states that are kept; it stops when it is told to, and goes on where it stands. */
import type { Artifacts } from "../artifacts/artifacts";
import type { State } from "../artifacts/safetensors";
import { batchAt } from "../data/order";
import type { Batch, Dataset } from "../data/dataset";
import { Refusal } from "../refusal";
import { blendedState } from "./blended_state";
import { lookAt, type Look } from "./held_out";
import { keep, type Best, type KeptRun, type Measured } from "./keeping";
import { rateAt, type TrainOptions } from "./options";
import { TrainingSession } from "./session";
import type { Runtime } from "./runtime";
import type { Device, Webgpu } from "./webgpu";

/** Which step the numbers are of: that with the lowest loss of held-out samples, as `tgdonnx export` takes it, or the last. */
export type Which = "best" | "last";

export interface Watch {
  step(step: number, loss: number, seconds: number): void;
  look(at: Measured, look: Look, best: number): void;
  /** Lets the worker hear what the page says, between steps. */
  between(): Promise<void>;
}

export class Run {
  readonly losses: number[];
  readonly evaluations: Measured[];
  private stopped = false;
  private device: Device = "wasm";

  private constructor(
    private readonly artifacts: Artifacts,
    private readonly data: Dataset,
    private readonly session: TrainingSession,
    private readonly start: State,
    public options: TrainOptions,
    past: { losses: number[]; evaluations: Measured[] },
    public best: Best | null,
  ) {
    this.losses = past.losses;
    this.evaluations = past.evaluations;
  }

  /** Opens a run: from the state of the artifacts, or where a kept one stands. `start` is what blend 0 is. */
  static async open(runtime: Runtime, artifacts: Artifacts, data: Dataset, start: State, from: TrainOptions | KeptRun): Promise<Run> {
    const kept = "state" in from ? from : null;
    const tensors = new Map([...artifacts.state.tensors].map(([name, { shape, values }]) => [name, { shape, values: values.slice() }]));
    const session = await TrainingSession.open(runtime, artifacts, kept?.state ?? { tensors, updates: artifacts.state.updates });
    const options = kept?.options ?? (from as TrainOptions);
    return new Run(artifacts, data, session, start, options, kept ?? { losses: [], evaluations: [] }, kept?.best ?? null);
  }

  /** Chooses what the next steps run on; returns what that is, in a sentence. `failed` hears if it has to be left. */
  async choose(wasm: Runtime, webgpu: Webgpu, device: Device, failed: (sentence: string) => void): Promise<string | null> {
    if (device === this.device && device !== "wasm") return null; // as it was, or as it could be
    await this.session.leaveElsewhere();
    this.device = device;
    const batch = device === "wasm" ? new Map() : await this.nextBatch();
    const { gradients, why } = await webgpu.open(wasm, this.artifacts, batch, this.state, device);
    if (gradients) await this.session.takeGradients(gradients, this.artifacts.parts!.update, (reason) => failed(webgpu.giveUp(reason)));
    return why;
  }

  get step(): number {
    return this.losses.length;
  }
  get state(): State {
    return this.session.state;
  }

  /** Returns the state after a step; the last where no held-out loss was measured. */
  stateOf(which: Which): State {
    return (which === "best" && this.best?.state) || this.state;
  }

  /** Returns how held-out samples do at a blend: 0 is what training started from, 1 what it came to. */
  async lookAt(blend: number, which: Which): Promise<Look | null> {
    const { session, artifacts, data, start } = this;
    return lookAt(session, artifacts.manifest, data, blendedState(start, this.stateOf(which), artifacts.manifest, blend));
  }

  stop(): void {
    this.stopped = true;
  }

  /** Trains until all steps are done or it is stopped; returns why it ended. */
  async train(watch: Watch): Promise<string> {
    this.stopped = false;
    while (this.step < this.options.steps && !this.stopped) {
      const begin = performance.now();
      const loss = await this.session.step(await this.nextBatch(), rateAt(this.options, this.step));
      if (!Number.isFinite(loss)) {
        await this.keep();
        throw new Refusal(
          `The loss is ${loss} at step ${this.step + 1}: training diverged, and the state before that step is kept. ` +
            "Start anew with a smaller learning rate.",
        );
      }
      this.losses.push(loss);
      watch.step(this.step, loss, (performance.now() - begin) / 1000);
      const ends = this.step === this.options.steps;
      if (ends || this.step % this.options.evaluateEvery === 0) await this.evaluate(watch);
      if (ends || this.step % this.options.keepEvery === 0) await this.keep();
      await watch.between();
    }
    await this.keep();
    return this.step < this.options.steps ? `stopped after step ${this.step}` : `done: ${this.step} steps`;
  }

  async close(): Promise<void> {
    await this.session.close();
  }

  private async nextBatch(): Promise<Batch> {
    const samples = batchAt(this.step, this.data.train, this.options.batch, this.options.seed);
    return this.data.batch(samples, this.step, this.options.seed);
  }

  private async evaluate(watch: Watch): Promise<void> {
    const look = await this.lookAt(1, "last");
    if (!look) return;
    const at = { step: this.step, loss: look.loss, metric: look.metric };
    this.evaluations.push(at);
    if (!this.best || look.loss < this.best.loss) {
      // Steps put new arrays into the state and write into none.
      const tensors = new Map([...this.state.tensors].map(([name, tensor]) => [name, { ...tensor }]));
      this.best = { step: this.step, loss: look.loss, state: { tensors, updates: this.state.updates } };
    }
    watch.look(at, look, this.best.step);
  }

  private async keep(): Promise<void> {
    const { losses, evaluations, options, state, best } = this;
    await keep({ artifacts: this.artifacts.identity, data: this.data.identity, options, state, best, losses, evaluations, saved: Date.now() });
  }
}
