/** A run: steps, looks at held-out samples, states that are kept; it stops when it is told to, and goes on where it stands. */
import type { Artifacts } from "../artifacts/artifacts";
import type { State } from "../artifacts/safetensors";
import { batchAt } from "../data/order";
import type { Dataset } from "../data/dataset";
import { Refusal } from "../refusal";
import { blendedState } from "./blended_state";
import { lookAt, type Look } from "./held_out";
import { keep, type KeptRun, type Measured } from "./keeping";
import { rateAt, type TrainOptions } from "./options";
import { TrainingSession } from "./session";
import type { Runtime } from "./runtime";

export interface Watch {
  step(step: number, loss: number, seconds: number): void;
  look(at: Measured, look: Look): void;
  /** Lets the worker hear what the page says, between steps. */
  between(): Promise<void>;
}

export class Run {
  readonly losses: number[];
  readonly evaluations: Measured[];
  private stopped = false;

  private constructor(
    private readonly artifacts: Artifacts,
    private readonly data: Dataset,
    private readonly session: TrainingSession,
    private readonly start: State,
    public options: TrainOptions,
    past: { losses: number[]; evaluations: Measured[] },
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
    return new Run(artifacts, data, session, start, options, kept ?? { losses: [], evaluations: [] });
  }

  get step(): number {
    return this.losses.length;
  }
  get state(): State {
    return this.session.state;
  }

  /** Returns how held-out samples do at a blend: 0 is what training started from, 1 what it came to. */
  async lookAt(blend: number): Promise<Look | null> {
    return lookAt(this.session, this.artifacts.manifest, this.data, blendedState(this.start, this.state, this.artifacts.manifest, blend));
  }

  stop(): void {
    this.stopped = true;
  }

  /** Trains until all steps are done or it is stopped; returns why it ended. */
  async train(watch: Watch): Promise<string> {
    this.stopped = false;
    while (this.step < this.options.steps && !this.stopped) {
      const begin = performance.now();
      const samples = batchAt(this.step, this.data.train, this.options.batch, this.options.seed);
      const batch = await this.data.batch(samples, this.step, this.options.seed);
      const loss = await this.session.step(batch, rateAt(this.options, this.step));
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

  private async evaluate(watch: Watch): Promise<void> {
    const look = await this.lookAt(1);
    if (!look) return;
    const at = { step: this.step, loss: look.loss, metric: look.metric };
    this.evaluations.push(at);
    watch.look(at, look);
  }

  private async keep(): Promise<void> {
    const { losses, evaluations, options, state } = this;
    await keep({ artifacts: this.artifacts.identity, data: this.data.identity, options, state, losses, evaluations, saved: Date.now() });
  }
}
