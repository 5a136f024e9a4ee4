/** ONNX Runtime in this worker: WebAssembly with SIMD, with as many threads as the page may have, or WebGPU. */
import type { InferenceSession, Tensor } from "onnxruntime-web";
import { Refusal } from "../refusal";

export type Backend = "wasm" | "webgpu";

/** What of the runtime is used: both builds have it. */
export interface Runtime {
  backend: Backend;
  open(model: Uint8Array): Promise<InferenceSession>;
  tensor(values: Float32Array | BigInt64Array, shape: readonly number[]): Tensor;
}

/** Loads the runtime. The bytes of WebAssembly lie in a script of the page: it may connect to nothing, not even to load them. */
export async function loadRuntime(backend: Backend, threads: number): Promise<Runtime> {
  const [ort, parts] =
    backend === "wasm"
      ? await Promise.all([import("onnxruntime-web/wasm"), import("virtual:ort-wasm")])
      : await Promise.all([import("onnxruntime-web/webgpu"), import("virtual:ort-webgpu")]);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = fromBase64(parts.wasm);
  ort.env.wasm.wasmPaths = { mjs: new URL(parts.script, self.location.origin).href };
  ort.env.logLevel = "error";
  return {
    backend,
    open: async (model) => {
      try {
        return await ort.InferenceSession.create(model, { executionProviders: backend === "wasm" ? ["wasm"] : ["webgpu", "wasm"] });
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
