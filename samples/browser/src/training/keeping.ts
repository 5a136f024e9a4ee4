/**
 * Runs that are kept in the browser (IndexedDB), so that they go on after the tab was closed or killed. Of a run there are the
 * state, the losses and the options; of the data nothing but a hash. It is written in one transaction: whole, or as before.
 */
import type { State } from "../artifacts/safetensors";
import type { TrainOptions } from "./options";

export interface Measured {
  step: number;
  loss: number;
  metric: number | null;
}
/** What a run came to at a look at held-out samples. */
export interface Best {
  step: number;
  loss: number;
  state: State;
}
export interface KeptRun {
  artifacts: string;
  data: string;
  options: TrainOptions;
  state: State;
  /** Where the held-out loss was lowest; null where none was measured. A run that an earlier page kept has none. */
  best?: Best | null;
  losses: number[];
  evaluations: Measured[];
  saved: number;
}

const STORE = "runs";

/** Returns the kept run of artifacts; null if there is none. */
export async function keptRun(artifacts: string): Promise<KeptRun | null> {
  return ((await transact("readonly", (store) => store.get(artifacts))) as KeptRun | undefined) ?? null;
}

/** Keeps a run in place of what was kept of its artifacts. */
export async function keep(run: KeptRun): Promise<void> {
  await transact("readwrite", (store) => store.put(run));
}

/** Forgets the run of artifacts. */
export async function forget(artifacts: string): Promise<void> {
  await transact("readwrite", (store) => store.delete(artifacts));
}

async function transact(mode: IDBTransactionMode, act: (store: IDBObjectStore) => IDBRequest): Promise<unknown> {
  const database = await opened();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode, { durability: "strict" });
      const request = act(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    database.close();
  }
}

function opened(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("tgdonnx", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "artifacts" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
