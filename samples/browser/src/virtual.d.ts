declare module "virtual:ort-wasm" {
  /** WebAssembly, in base 64. */
  export const wasm: string;
  /** The address of the script that starts it, and its threads. */
  export const script: string;
}
