/** The order of samples, from a seed: the same in every browser, and the same for a run that goes on. */

/** Returns a generator of numbers from 0 to 1: mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Returns the samples of an epoch (counted from 0) in their order: Fisher and Yates, from the end. */
export function orderOf(count: number, seed: number, epoch: number): number[] {
  const random = randomFrom(Math.imul(seed, 1000003) + epoch);
  const order = Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other] as number, order[last] as number];
  }
  return order;
}

/** Returns the samples of a step (counted from 0). What does not fill a batch at the end of an epoch waits for another order. */
export function batchAt(step: number, count: number, batch: number, seed: number): number[] {
  const perEpoch = Math.floor(count / batch);
  const inside = step % perEpoch;
  return orderOf(count, seed, Math.floor(step / perEpoch)).slice(inside * batch, (inside + 1) * batch);
}

/** Returns which of some samples train and which are held out: of every so many the last, none for 0. */
export function split(count: number, heldOut: number): { train: number[]; held: number[] } {
  const wanted = Math.min(heldOut, count - 1);
  const every = wanted > 0 ? Math.floor(count / wanted) : count + 1;
  const train: number[] = [];
  const held: number[] = [];
  for (let i = 0; i < count; i++) (i % every === every - 1 && held.length < wanted ? held : train).push(i);
  return { train, held };
}
