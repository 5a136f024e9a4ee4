/** Starts the worker. */
import address from "../worker?worker&url";

/**
 * Returns the worker. It starts from a blob, which inherits the policy of the page: a worker loaded by its address has that of its
 * own headers, and a static host sends none.
 */
export function startWorker(threads: string | null): Worker {
  const script = `import ${JSON.stringify(new URL(address, location.href).href)};`;
  const blob = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  return new Worker(blob, { type: "module", name: new URLSearchParams(threads ? { threads } : {}).toString() });
}
