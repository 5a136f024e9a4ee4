/**
 * What numbers become at a blend A from 0 to 1: W = W0 + A (W1 - W0), in float64, as tgdonnx/blending/formula.py. It is exact
 * at the ends, and what did not move keeps its bits.
 */
export function blended(start: ArrayLike<number>, trained: ArrayLike<number>, blend: number): Float64Array {
  if (blend === 1) return Float64Array.from(trained);
  if (blend === 0) return Float64Array.from(start);
  return Float64Array.from(start, (first, index) => {
    const last = trained[index] as number;
    return first === last ? first : first + blend * (last - first);
  });
}
