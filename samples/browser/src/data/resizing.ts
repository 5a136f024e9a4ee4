/**
 * Resizing as Pillow does it, bilinear, smoothing first where a picture becomes smaller: across and then down, each rounded to 8
 * bits. Pillow 13 takes some pictures down first; then a byte can differ by one.
 */
import type { Pixels } from "./pixels";

/** Weights are whole numbers of this fraction, as Pillow's are. */
const ONE = 2 ** 22;

/** Returns a picture of another size. */
export function resized(picture: Pixels, height: number, width: number): Pixels {
  const { channels } = picture;
  const across = pass(picture.values, picture.height, picture.width, width, channels);
  const turned = transposed(across, picture.height, width, channels);
  const down = pass(turned, width, picture.height, height, channels);
  return { height, width, channels, values: transposed(down, width, height, channels) };
}

/** Returns a part of a picture. */
export function cut(picture: Pixels, top: number, left: number, height: number, width: number): Pixels {
  const { channels } = picture;
  const values = new Uint8Array(height * width * channels);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * picture.width + left) * channels;
    values.set(picture.values.subarray(from, from + width * channels), y * width * channels);
  }
  return { height, width, channels, values };
}

function pass(values: Uint8Array, rows: number, from: number, to: number, channels: number): Uint8Array {
  if (from === to) return values;
  const scale = from / to;
  const support = Math.max(scale, 1);
  const out = new Uint8Array(rows * to * channels);
  for (let x = 0; x < to; x++) {
    const centre = (x + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), from);
    const triangle = Array.from({ length: last - first }, (_, i) => Math.max(0, 1 - Math.abs((first + i - centre + 0.5) / support)));
    const sum = triangle.reduce((total, weight) => total + weight, 0);
    const weights = triangle.map((weight) => Math.floor(0.5 + (weight / sum) * ONE));
    for (let y = 0; y < rows; y++) {
      for (let c = 0; c < channels; c++) {
        let value = ONE / 2;
        for (let i = 0; i < weights.length; i++) value += weights[i]! * values[(y * from + first + i) * channels + c]!;
        out[(y * to + x) * channels + c] = Math.min(255, Math.floor(value / ONE));
      }
    }
  }
  return out;
}

function transposed(values: Uint8Array, rows: number, columns: number, channels: number): Uint8Array {
  const out = new Uint8Array(values.length);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let c = 0; c < channels; c++) out[(x * rows + y) * channels + c] = values[(y * columns + x) * channels + c]!;
    }
  }
  return out;
}
