declare module "virtual:ort-wasm" {
  /** WebAssembly, in base 64. */
  export const wasm: string;
  /** The address of the script that starts it, and its threads. */
  export const script: string;
}
/** The same of the build that has WebGPU. */
declare module "virtual:ort-webgpu" {
  export const wasm: string;
  export const script: string;
}
