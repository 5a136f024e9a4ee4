/** ONNX Runtime in this worker: WebAssembly with SIMD, with as many threads as the page may have. */
import * as ort from "onnxruntime-web/wasm";
import { Refusal } from "../refusal";

/** What of the runtime is used. */
export interface Runtime {
  open(model: Uint8Array): Promise<ort.InferenceSession>;
  tensor(values: Float32Array | BigInt64Array, shape: readonly number[]): ort.Tensor;
}

/** Loads the runtime. The bytes of WebAssembly lie in a script of the page: it may connect to nothing, not even to load them. */
export async function loadRuntime(threads: number): Promise<Runtime> {
  const { wasm, script } = await import("virtual:ort-wasm");
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = fromBase64(wasm);
  ort.env.wasm.wasmPaths = { mjs: script };
  ort.env.logLevel = "error";
  return {
    open: async (model) => {
      try {
        return await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
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
