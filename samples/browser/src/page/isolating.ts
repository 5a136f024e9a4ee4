/** Cross-origin isolation, without which there is one thread. Where the host sends no headers for it, a service worker adds them. */
const TRIED = "tgdonnx-isolating";

/** Returns whether the page is about to be loaded again, isolated. */
export async function isolate(): Promise<boolean> {
  if (crossOriginIsolated || !("serviceWorker" in navigator) || sessionStorage.getItem(TRIED)) return false;
  sessionStorage.setItem(TRIED, "1");
  try {
    await navigator.serviceWorker.register("./isolation.js");
    await navigator.serviceWorker.ready;
  } catch {
    return false; // the browser forbids service workers, as in some private windows: one thread is what is left
  }
  location.reload();
  return true;
}
