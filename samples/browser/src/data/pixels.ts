/** Pictures, decoded by the browser: 8 bits, one channel or three, kept in a cache that is bounded. */
import { Refusal } from "../refusal";

export interface Pixels {
  height: number;
  width: number;
  channels: 1 | 3;
  /** Row-major, channels last. */
  values: Uint8Array;
}

const CACHE_BYTES = 256 * 2 ** 20;
const PNG = [0x89, 0x50, 0x4e, 0x47];
const BIT_DEPTH = 24;

/** Whether a name is that of a picture that browsers decode. */
export function isPicture(path: string): boolean {
  return /\.(png|jpe?g|webp|bmp|gif|avif)$/i.test(path);
}

/** Decodes pictures, each once as long as the cache has room; what was not used for longest goes first. */
export class PixelCache {
  private readonly kept = new Map<File, Pixels>();
  private bytes = 0;

  constructor(private readonly channels: 1 | 3) {}

  async of(file: File): Promise<Pixels> {
    const found = this.kept.get(file) ?? (await decode(file, this.channels));
    if (!this.kept.delete(file)) this.bytes += found.values.length;
    this.kept.set(file, found);
    for (const [oldest, { values }] of this.kept) {
      if (this.bytes <= CACHE_BYTES || oldest === file) break;
      this.kept.delete(oldest);
      this.bytes -= values.length;
    }
    return found;
  }
}

async function decode(file: File, channels: 1 | 3): Promise<Pixels> {
  const head = new Uint8Array(await file.slice(0, BIT_DEPTH + 1).arrayBuffer());
  if (PNG.every((byte, at) => head[at] === byte) && head[BIT_DEPTH] === 16) {
    throw new Refusal(`${file.name} has 16 bits, of which a browser shows 8. Save the data as .npz, which is taken as it is.`);
  }
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "none" });
  } catch {
    throw new Refusal(`${file.name} cannot be decoded as a picture. Is it damaged, or of a kind that this browser does not know?`);
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Refusal("This browser has no canvas to decode pictures with.");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height * channels);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const [red, green, blue] = [data[4 * pixel]!, data[4 * pixel + 1]!, data[4 * pixel + 2]!];
    if (channels === 3) values.set([red, green, blue], 3 * pixel);
    // ITU-R 601-2 in the integers of Pillow, so that both make the same grey.
    else values[pixel] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return { height, width, channels, values };
}
