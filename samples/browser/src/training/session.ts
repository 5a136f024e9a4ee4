/**
 * A training session: `step.onnx` and `eval.onnx`, and the state that goes through the first. As StepSession of
 * tgdonnx/engines/onnxruntime/session.py: a step whose loss is not finite moves nothing.
 *
 * A step may take its gradient from elsewhere, from WebGPU: then `update.onnx` moves the state. That is here, whatever computes,
 * and so is what measures held-out samples. If what computes elsewhere fails, the step is done here, and so are all that follow.
 */
import type { InferenceSession, Tensor } from "onnxruntime-web";
import type { Artifacts } from "../artifacts/artifacts";
import type { State } from "../artifacts/safetensors";
import type { Batch, Fed } from "../data/dataset";
import type { GradientSession } from "./gradient_session";
import { numberOf, runModel } from "./running";
import type { Runtime } from "./runtime";

const AFTER = ".after";
const RATE = "tgdonnx::learning_rate";
const STEP = "tgdonnx::step";
const BATCHES = "tgdonnx::batches";

export interface Evaluation {
  loss: number;
  /** By the name of the output in the vendor's file. */
  outputs: Map<string, { values: Float32Array; shape: readonly number[] }>;
}
interface Elsewhere {
  gradients: GradientSession;
  updating: InferenceSession;
  failed: (why: string) => void;
}

export class TrainingSession {
  private elsewhere: Elsewhere | null = null;

  private constructor(
    private readonly runtime: Runtime,
    private readonly stepping: InferenceSession,
    private readonly evaluating: InferenceSession,
    /** What the parameters and the optimizer are now. */
    public state: State,
  ) {}

  static async open(runtime: Runtime, artifacts: Artifacts, state: State): Promise<TrainingSession> {
    return new TrainingSession(runtime, await runtime.open(artifacts.step), await runtime.open(artifacts.eval), state);
  }

  /** Takes gradients from elsewhere from now on; `failed` hears why it no longer does. */
  async takeGradients(gradients: GradientSession, update: Uint8Array, failed: (why: string) => void): Promise<void> {
    this.elsewhere = { gradients, updating: await this.runtime.open(update), failed };
  }

  /** Takes gradients from here. */
  async leaveElsewhere(): Promise<void> {
    const { gradients, updating } = this.elsewhere ?? {};
    this.elsewhere = null;
    await updating?.release();
    await gradients?.close();
  }

  /** Moves the parameters by the gradient of a batch; returns its loss. */
  async step(batch: Batch, rate: number): Promise<number> {
    const numbers = new Map<string, Fed>([
      [RATE, { values: Float32Array.of(rate), shape: [] }],
      [STEP, { values: BigInt64Array.of(BigInt(this.state.updates + 1)), shape: [] }],
    ]);
    const moved = this.elsewhere && (await this.stepElsewhere(this.elsewhere, batch, numbers));
    if (moved) return this.take(moved.results, moved.loss);
    const results = await runModel(this.runtime, this.stepping, batch, numbers, this.state.tensors);
    return this.take(results, numberOf(results[this.stepping.outputNames[0]!]!));
  }

  /** Returns the loss of a batch and the outputs, with the parameters of a state; nothing is trained. */
  async evaluate(batch: Batch, state: State): Promise<Evaluation> {
    const results = await runModel(this.runtime, this.evaluating, batch, state.tensors);
    const [first, ...others] = this.evaluating.outputNames;
    const outputs: Evaluation["outputs"] = new Map();
    for (const name of others) {
      const { data, dims } = results[name]!;
      if (data instanceof Float32Array) outputs.set(name, { values: data, shape: dims });
    }
    return { loss: numberOf(results[first!]!), outputs };
  }

  async close(): Promise<void> {
    await this.leaveElsewhere();
    await this.stepping.release();
    await this.evaluating.release();
  }

  private take(results: Record<string, Tensor>, loss: number): number {
    if (Number.isFinite(loss)) {
      // The runtime copies nothing back into tensors that are given for outputs, so the arrays that it made become the state.
      for (const [name, tensor] of this.state.tensors) tensor.values = results[name + AFTER]!.data as Float32Array;
      this.state.updates += 1;
    } else {
      for (const result of Object.values(results)) result.dispose();
    }
    return loss;
  }

  private async stepElsewhere(
    { gradients, updating, failed }: Elsewhere,
    batch: Batch,
    numbers: Map<string, Fed>,
  ): Promise<{ results: Record<string, Tensor>; loss: number } | null> {
    try {
      const { loss, sums } = await gradients.of(batch, this.state);
      // Whether that is so, the step done here says.
      if (!Number.isFinite(loss)) throw new Error(`its loss was ${loss}`);
      for (const { values } of sums.values()) {
        if (!(values as Float32Array).every(Number.isFinite)) throw new Error("its gradient was not finite");
      }
      const one = new Map<string, Fed>([[BATCHES, { values: Float32Array.of(1), shape: [] }]]);
      return { results: await runModel(this.runtime, updating, sums, one, numbers, this.state.tensors), loss };
    } catch (error) {
      this.elsewhere = null; // a session of a device that is lost may never be released
      failed((error as Error).message);
      return null;
    }
  }
}
