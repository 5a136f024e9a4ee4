/**
 * ONNX Runtime in this worker, in two builds that know nothing of each other: on WebAssembly with SIMD, with as many threads as
 * the page may have, and on WebGPU. The second lacks what the first has in float64, so it cannot stand in for it.
 */
import type { InferenceSession, Tensor } from "onnxruntime-web";
import { Refusal } from "../refusal";

/** What of a build is used. */
export interface Runtime {
  open(model: Uint8Array): Promise<InferenceSession>;
  tensor(values: Float32Array | BigInt64Array, shape: readonly number[]): Tensor;
}
export interface WebgpuRuntime extends Runtime {
  /** Is resolved once the device is lost. Asked for after a model was opened. */
  lost(): Promise<Error>;
}

type Build = typeof import("onnxruntime-web/wasm");
const ERRORS_ALONE = 3;

/** Loads the build on WebAssembly. */
export async function loadRuntime(threads: number): Promise<Runtime> {
  return runtimeOf(await import("onnxruntime-web/wasm"), await import("virtual:ort-wasm"), "wasm", threads);
}

/** Loads the build with WebGPU. */
export async function loadWebgpu(): Promise<WebgpuRuntime> {
  const ort = await import("onnxruntime-web/webgpu");
  return {
    ...runtimeOf(ort, await import("virtual:ort-webgpu"), "webgpu", 1),
    lost: async () => {
      const device = (await ort.env.webgpu.device) as unknown as { lost: Promise<{ message: string }> };
      const { message } = await device.lost;
      return new Error(`the device was lost${message && `: ${message}`}`);
    },
  };
}

/** The bytes of WebAssembly lie in a script of the page: it may connect to nothing, not even to load them. */
function runtimeOf(ort: Build, { wasm, script }: { wasm: string; script: string }, provider: "wasm" | "webgpu", threads: number): Runtime {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = fromBase64(wasm);
  ort.env.wasm.wasmPaths = { mjs: script };
  ort.env.logLevel = "error";
  return {
    open: async (model) => {
      try {
        return await ort.InferenceSession.create(model, { executionProviders: [provider], logSeverityLevel: ERRORS_ALONE });
      } catch (error) {
        throw new Refusal(`The runtime cannot open a model of these artifacts: ${(error as Error).message}`);
      }
    },
    tensor: (values, shape) =>
      values instanceof Float32Array ? new ort.Tensor("float32", values, shape) : new ort.Tensor("int64", values, shape),
  };
}

function fromBase64(text: string): ArrayBuffer {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes.buffer;
}
