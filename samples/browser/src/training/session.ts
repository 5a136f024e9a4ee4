/**
 * A training session: `step.onnx` and `eval.onnx`, and the state that goes through the first. As StepSession of
 * tgdonnx/engines/onnxruntime/session.py: a step whose loss is not finite moves nothing.
 */
import type { InferenceSession, Tensor } from "onnxruntime-web";
import type { Artifacts } from "../artifacts/artifacts";
import type { State } from "../artifacts/safetensors";
import type { Batch, Fed } from "../data/dataset";
import { Refusal } from "../refusal";
import type { Runtime } from "./runtime";

const AFTER = ".after";
const RATE = "tgdonnx::learning_rate";
const STEP = "tgdonnx::step";

export interface Evaluation {
  loss: number;
  /** By the name of the output in the vendor's file. */
  outputs: Map<string, { values: Float32Array; shape: readonly number[] }>;
}

export class TrainingSession {
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

  /** Moves the parameters by the gradient of a batch; returns its loss. */
  async step(batch: Batch, rate: number): Promise<number> {
    const numbers: [string, Fed][] = [
      [RATE, { values: Float32Array.of(rate), shape: [] }],
      [STEP, { values: BigInt64Array.of(BigInt(this.state.updates + 1)), shape: [] }],
    ];
    const results = await this.run(this.stepping, [...batch, ...numbers], this.state);
    const loss = numberOf(results[this.stepping.outputNames[0]!]!);
    if (Number.isFinite(loss)) {
      // The runtime copies nothing back into tensors that are given for outputs, so the arrays that it made become the state.
      for (const [name, tensor] of this.state.tensors) tensor.values = results[name + AFTER]!.data as Float32Array;
      this.state.updates += 1;
    } else {
      for (const result of Object.values(results)) result.dispose();
    }
    return loss;
  }

  /** Returns the loss of a batch and the outputs, with the parameters of a state; nothing is trained. */
  async evaluate(batch: Batch, state: State): Promise<Evaluation> {
    const results = await this.run(this.evaluating, [...batch], state);
    const [first, ...others] = this.evaluating.outputNames;
    const outputs: Evaluation["outputs"] = new Map();
    for (const name of others) {
      const { data, dims } = results[name]!;
      if (data instanceof Float32Array) outputs.set(name, { values: data, shape: dims });
    }
    return { loss: numberOf(results[first!]!), outputs };
  }

  async close(): Promise<void> {
    await this.stepping.release();
    await this.evaluating.release();
  }

  private async run(session: InferenceSession, fed: [string, Fed][], state: State): Promise<Record<string, Tensor>> {
    const given = new Map(fed);
    const feeds: Record<string, Tensor> = {};
    for (const name of session.inputNames) {
      const { values, shape } = given.get(name) ?? state.tensors.get(name) ?? missing(name);
      feeds[name] = this.runtime.tensor(values, shape);
    }
    try {
      return await session.run(feeds);
    } catch (error) {
      throw new Refusal(`The model cannot be run on this data: ${(error as Error).message}`);
    } finally {
      for (const tensor of Object.values(feeds)) tensor.dispose();
    }
  }
}

function missing(name: string): never {
  throw new Refusal(`The model reads ${name}, which is neither data nor state. Build the artifacts again.`);
}

function numberOf(tensor: Tensor): number {
  return Number(tensor.data[0]);
}
