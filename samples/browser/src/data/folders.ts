/** Dropped pictures by split and folder: `[train|validation]/FOLDER/picture`, whatever stands before. */
import type { Dropped } from "../artifacts/artifacts";
import { sha256 } from "../artifacts/hashing";
import { isPicture } from "./pixels";

export interface Entry {
  held: boolean;
  folder: string;
  name: string;
  file: File;
}

const TRAIN = /^(train|training)$/i;
const HELD = /^(val|valid|validation|held-?out)$/i;
const BEGINNING = 65536;

/** Returns the pictures of what was dropped, in the order of their paths, and whether folders say which are held out. */
export function picturesIn(dropped: Dropped[]): { entries: Entry[]; separate: boolean } {
  const entries: Entry[] = [];
  let separate = false;
  const sorted = dropped.filter(({ path }) => isPicture(path)).sort((a, b) => (a.path < b.path ? -1 : 1));
  for (const { path, file } of sorted) {
    const parts = path.split("/");
    const name = parts.pop() ?? "";
    const held = parts.some((part) => HELD.test(part));
    separate ||= held;
    // Pictures of a test split beside the others belong to neither.
    if (parts.some((part) => /^test$/i.test(part)) && dropped.some((other) => other.path.split("/").some((part) => TRAIN.test(part)))) continue;
    entries.push({ held, folder: parts[parts.length - 1] ?? "", name, file });
  }
  return { entries, separate };
}

/** Returns a hash of files: of their names, sizes and beginnings, so that large ones are not read twice. */
export async function identityOf(entries: Entry[], how: unknown): Promise<string> {
  const parts = [new TextEncoder().encode(JSON.stringify(how))];
  for (const { held, folder, name, file } of entries) {
    parts.push(new TextEncoder().encode(JSON.stringify([held, folder, name, file.size])));
    parts.push(new Uint8Array(await file.slice(0, BEGINNING).arrayBuffer()));
  }
  return sha256(...parts);
}
