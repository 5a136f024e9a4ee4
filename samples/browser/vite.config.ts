/// <reference types="vitest/config" />
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { defaultClientConditions, defineConfig, type Plugin } from "vite";

const DIST = dirname(createRequire(import.meta.url).resolve("onnxruntime-web/wasm"));
/** The builds of the runtime. That with WebGPU suspends itself by Asyncify, which every browser can; not all have JSPI. */
const BUILDS: { [module: string]: string } = {
  "virtual:ort-wasm": "ort-wasm-simd-threaded",
  "virtual:ort-webgpu": "ort-wasm-simd-threaded.asyncify",
};

/**
 * The runtime's WebAssembly as text in a script: a page whose policy forbids every connection cannot fetch it. The script that
 * starts its threads stays a file of its own, for each thread loads it.
 */
function runtimeInScripts(): Plugin {
  return {
    name: "runtime-in-scripts",
    resolveId: (id) => (id in BUILDS ? `\0${id}` : null),
    load(id) {
      const build = id.startsWith("\0") ? BUILDS[id.slice(1)] : undefined;
      if (build === undefined) return null;
      const wasm = readFileSync(join(DIST, `${build}.wasm`)).toString("base64");
      const emitted = this.emitFile({ type: "asset", name: `${build}.mjs`, source: readFileSync(join(DIST, `${build}.mjs`)) });
      return `export const wasm = "${wasm}";\nexport const script = import.meta.ROLLUP_FILE_URL_${emitted};\n`;
    },
  };
}

const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; worker-src 'self' blob:; " +
  "connect-src 'none'; base-uri 'none'; form-action 'none'";
const HEADERS = {
  "Content-Security-Policy": POLICY,
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** The policy in the page, and the service worker that gives the same headers where the host sends none. */
function policed(): Plugin {
  return {
    name: "policed",
    transformIndexHtml: () => [
      { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: POLICY }, injectTo: "head-prepend" },
    ],
    generateBundle() {
      const source = readFileSync(new URL("src/isolation_worker.js", import.meta.url), "utf8");
      this.emitFile({ type: "asset", fileName: "isolation.js", source: `const HEADERS = ${JSON.stringify(HEADERS)};\n${source}` });
    },
  };
}

export default defineConfig({
  base: "./",
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", ...defaultClientConditions] },
  plugins: [runtimeInScripts(), policed()],
  worker: { format: "es", plugins: () => [runtimeInScripts()] },
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 40000, reportCompressedSize: false },
  preview: { headers: HEADERS },
  test: { include: ["tests/*.test.ts"], setupFiles: ["tests/node_crypto.ts"], environment: "node" },
});
