declare module "virtual:ort-wasm" {
  export const wasm: string;
  export const script: string;
}
declare module "virtual:ort-webgpu" {
  export const wasm: string;
  export const script: string;
}
