/** How many threads the runtime may have. Threads share memory, which browsers give to isolated pages alone. */
const MOST = 8;

export interface Threads {
  threads: number;
  why: string;
}

/** Returns the number of threads, and why it is that. `asked`: what the address of the page says, if it does. */
export function threadsOf(asked: string | null, isolated: boolean, cores: number): Threads {
  const most = Math.max(1, Math.min(cores, MOST));
  if (!isolated) return { threads: 1, why: "this host does not isolate the page (see README, Threads)" };
  const count = Number(asked);
  if (asked !== null && Number.isInteger(count) && count >= 1) return { threads: count, why: "as the address asks" };
  return { threads: most, why: `of ${cores} cores` };
}
