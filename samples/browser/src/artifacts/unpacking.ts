/** Zip files, in memory: the one that `tgdonnx build --zip` writes, and the one that an .npz is. */
import { unzipSync } from "fflate";
import { Refusal } from "../refusal";

/** A WebAssembly memory has 4 GiB, and what is unpacked goes in there besides what training takes. */
const MOST_BYTES = 1.5 * 2 ** 30;

/** Returns the files in a zip file by their paths. */
export function unpack(zip: Uint8Array, name: string): Map<string, Uint8Array> {
  let total = 0;
  let found: Record<string, Uint8Array>;
  try {
    found = unzipSync(zip, {
      filter: ({ originalSize }) => {
        total += originalSize;
        if (total > MOST_BYTES) throw new Refusal(`${name} holds more than 1.5 GiB, which is too much for a page. Train it with Python.`);
        return true;
      },
    });
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(`${name} is no zip file that can be read (${(error as Error).message}). Was it copied whole?`);
  }
  return new Map(Object.entries(found).filter(([path]) => !path.endsWith("/")));
}

/** Whether bytes begin as a zip file does. */
export function isZip(data: Uint8Array): boolean {
  return data[0] === 0x50 && data[1] === 0x4b && (data[2] === 3 || data[2] === 5);
}
