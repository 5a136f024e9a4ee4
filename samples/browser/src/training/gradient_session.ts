/** `gradients.onnx` in a runtime: the loss of a batch and its gradient; nothing is moved. */
import type { InferenceSession } from "onnxruntime-web";
import type { Manifest } from "../artifacts/manifest";
import type { State } from "../artifacts/safetensors";
import type { Batch, Fed } from "../data/dataset";
import { numberOf, runModel } from "./running";
import type { Runtime } from "./runtime";

export interface Gradient {
  loss: number;
  /** By the names that `update.onnx` reads them by. */
  sums: Map<string, Fed>;
}

export class GradientSession {
  private constructor(
    private readonly runtime: Runtime,
    private readonly session: InferenceSession,
    /** What the gradient is added to: zeros. */
    private readonly none: Map<string, Fed>,
  ) {}

  /** Ends a run that waits for a device that is lost. */
  private fail: ((error: Error) => void) | null = null;
  private lost: Error | null = null;

  static async open(runtime: Runtime, model: Uint8Array, manifest: Manifest, state: State): Promise<GradientSession> {
    const none = manifest.trained.map(({ name }): [string, Fed] => {
      const { shape, values } = state.tensors.get(name)!;
      return [`tgdonnx::${name}.sum`, { shape, values: new Float32Array(values.length) }];
    });
    return new GradientSession(runtime, await runtime.open(model), new Map(none));
  }

  async of(batch: Batch, state: State): Promise<Gradient> {
    const results = await this.unlessLost(runModel(this.runtime, this.session, batch, this.none, state.tensors));
    const sums = new Map<string, Fed>();
    for (const [name, { shape }] of this.none) sums.set(name, { shape, values: results[`${name}.after`]!.data as Float32Array });
    return { loss: numberOf(results[this.session.outputNames[0]!]!), sums };
  }

  /** Tells that the device is lost, on which this runs. */
  lose(error: Error): void {
    this.lost = error;
    this.fail?.(error);
  }

  async close(): Promise<void> {
    if (!this.lost) await this.session.release();
  }

  private unlessLost<T>(running: Promise<T>): Promise<T> {
    if (this.lost) return Promise.reject(this.lost);
    return new Promise<T>((resolve, reject) => {
      this.fail = reject;
      running.then(resolve, reject);
    }).finally(() => (this.fail = null));
  }
}
