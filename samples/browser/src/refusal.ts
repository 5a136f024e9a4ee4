/** What a person can do something about: a sentence or two, which the page shows as it is. */
export class Refusal extends Error {}

/** Returns what to show of anything that was thrown. */
export function sentenceOf(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  const said = error instanceof Error ? error.message : String(error);
  if (/out of memory|allocation failed|bad_alloc|Array buffer allocation/i.test(said)) {
    return `There is not enough memory for this: ${said}. Take a smaller batch or smaller patches.`;
  }
  return `Something went wrong that this page does not know: ${said}`;
}
