/**
 * WebGPU: whether it computes gradients. What a browser or a driver gives is not believed. With the first batch WebGPU and
 * WebAssembly both compute the gradient; where they differ, or where WebAssembly is as fast, WebGPU is not taken.
 */
import type { Artifacts } from "../artifacts/artifacts";
import type { State } from "../artifacts/safetensors";
import type { Batch } from "../data/dataset";
import { GradientSession, type Gradient } from "./gradient_session";
import { loadWebgpu, type Runtime, type WebgpuRuntime } from "./runtime";

/** What a person wants steps to run on. */
export type Device = "fastest" | "webgpu" | "wasm";

export interface Chosen {
  /** None: WebAssembly computes. */
  gradients: GradientSession | null;
  /** What it is, or why there is none, in a sentence. */
  why: string;
}
interface Adapter {
  info?: { vendor?: string; architecture?: string; description?: string; isFallbackAdapter?: boolean };
  isFallbackAdapter?: boolean;
}

/** Of the largest number of the gradient of a parameter. Rounding in another order makes 1e-6, approximate functions 1e-4. */
export const MOST_DIFFERENCE = 1e-3;
/** What is this small against the largest number of all is what rounding left. */
const NOTHING = 1e-6;
/** Seconds until the first gradients: programs for the device are compiled for them. Ten times that where it was chosen. */
const PATIENCE = 60;

export class Webgpu {
  private runtime: Promise<WebgpuRuntime> | null = null;
  /** Why this page does not try it again. */
  private broken: string | null = null;

  /** Opens it for the artifacts, if it is wanted, there, right about a batch, and worth it. */
  async open(wasm: Runtime, artifacts: Artifacts, batch: Batch, state: State, device: Device): Promise<Chosen> {
    const none = (why: string): Chosen => ({ gradients: null, why: `WebGPU is not used: ${why}.` });
    if (device === "wasm") return none("WebAssembly was chosen");
    if (this.broken) return none(this.broken);
    if (!artifacts.parts) return none("this browser has none");
    const adapter = await adapterOf();
    if (!adapter) return none("this browser gives no graphics processor for it");
    if (device === "fastest" && (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter)) {
      return none("this browser computes it in software");
    }
    try {
      return await this.compared(wasm, artifacts, batch, state, device, nameOf(adapter));
    } catch (error) {
      if (error instanceof TooLate) this.broken = error.message;
      return none((error as Error).message.replace(/\.$/, ""));
    }
  }

  /** Returns a sentence of why it is given up, and does not try it again. */
  giveUp(why: string): string {
    this.broken = `it failed, ${why}`;
    return `WebGPU was given up: ${why}. The step was done on WebAssembly, and so are those that follow.`;
  }

  private async compared(wasm: Runtime, artifacts: Artifacts, batch: Batch, state: State, device: Device, name: string): Promise<Chosen> {
    const { parts, manifest } = artifacts;
    const reference = await GradientSession.open(wasm, parts!.gradients, manifest, state);
    const expected = await timed(reference, batch, state).finally(() => reference.close());
    const { session, found } = await within(device === "webgpu" ? 10 * PATIENCE : PATIENCE, this.tried(artifacts, batch, state));
    const { share, where } = difference(found.gradient, expected.gradient);
    const times = `${found.seconds.toPrecision(2)} s a gradient, ${expected.seconds.toPrecision(2)} s on WebAssembly`;
    let why = null;
    if (!(share <= MOST_DIFFERENCE)) why = `its gradient of ${where} differs from that of WebAssembly by ${percent(share)} of its largest number`;
    else if (device === "fastest" && found.seconds >= expected.seconds) why = `it is no faster here, ${times}`;
    if (why !== null) {
      await session.close();
      return { gradients: null, why: `WebGPU is not used: ${why}.` };
    }
    return { gradients: session, why: `Steps run on WebGPU (${name}), ${times}; the first gradient differs by ${percent(share)}.` };
  }

  private async tried({ parts, manifest }: Artifacts, batch: Batch, state: State): Promise<{ session: GradientSession; found: Timed }> {
    const runtime = await (this.runtime ??= loadWebgpu());
    const session = await GradientSession.open(runtime, parts!.gradients, manifest, state);
    runtime.lost().then(
      (error) => session.lose(error),
      () => undefined, // it cannot be asked: then a step that fails tells it
    );
    try {
      return { session, found: await timed(session, batch, state) };
    } catch (error) {
      await session.close();
      throw error;
    }
  }
}

/** Returns by what share of its largest number the gradient of a parameter differs at most, and of which; NaN where one is no number. */
export function difference(found: Gradient, expected: Gradient): { share: number; where: string } {
  const largestOf = (values: Float32Array | BigInt64Array): number => (values as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const floor = NOTHING * Math.max(...[...expected.sums.values()].map(({ values }) => largestOf(values)));
  let worst = { share: Math.abs(found.loss - expected.loss) / Math.max(Math.abs(expected.loss), Number.MIN_VALUE), where: "the loss" };
  for (const [name, { values }] of expected.sums) {
    const others = found.sums.get(name)!.values;
    const apart = (values as Float32Array).reduce((most, value, place) => Math.max(most, Math.abs(value - Number(others[place]))), 0);
    const share = apart === 0 ? 0 : apart / Math.max(largestOf(values), floor);
    if (Number.isNaN(worst.share)) break;
    if (!(share <= worst.share)) worst = { share, where: name.replace(/^tgdonnx::(.*)\.sum$/s, "$1") };
  }
  return worst;
}

interface Timed {
  gradient: Gradient;
  seconds: number;
}

async function timed(session: GradientSession, batch: Batch, state: State): Promise<Timed> {
  await session.of(batch, state); // compiles, and gets memory
  const begin = performance.now();
  const gradient = await session.of(batch, state);
  return { gradient, seconds: (performance.now() - begin) / 1000 };
}

async function adapterOf(): Promise<Adapter | null> {
  const { gpu } = navigator as unknown as { gpu?: { requestAdapter(options: object): Promise<Adapter | null> } };
  try {
    return (await gpu?.requestAdapter({ powerPreference: "high-performance" })) ?? null;
  } catch {
    return null;
  }
}

function nameOf({ info }: Adapter): string {
  return info?.description || [info?.vendor, info?.architecture].filter(Boolean).join(" ") || "of unknown make";
}

function percent(share: number): string {
  return `${(100 * share).toPrecision(2)} %`;
}

class TooLate extends Error {}

function within<T>(seconds: number, promise: Promise<T>): Promise<T> {
  let timer = 0;
  const late = new Promise<never>((_, reject) => {
    timer = self.setTimeout(() => reject(new TooLate(`its first gradient was not there after ${seconds} s`)), 1000 * seconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
