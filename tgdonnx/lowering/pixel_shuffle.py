"""Pixel shuffle in any number of dimensions, and its inverse: how channels become neighbours in space.

    pixel_shuffle:  (N, C * s1 * ... * sd, H1, ..., Hd)  ->  (N, C, H1 * s1, ..., Hd * sd)

Channel ``(c, r1, ..., rd)`` at pixel ``(i1, ..., id)`` goes to channel c at pixel ``(i1 * s1 + r1, ...)``. Written as one
Transpose of rank 2 + 2d, the runtime takes eight times as long as with one Transpose per axis that swaps two
neighbouring axes, with a Reshape between, without which it would join them to the former.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tgdonnx.lowering.arithmetic import Arithmetic, Number, int64


def pixel_shuffle(
    a: Arithmetic, x: ir.Value, *, channels: Number, factors: Sequence[int], sizes: Sequence[Number]
) -> ir.Value:
    """Adds nodes that spread the phases in the channels over space.

    Args:
        a: where to.
        x: shape (N, channels * prod(factors), *sizes).
        channels: how many channels the result has.
        factors: the number of phases per axis.
        sizes: of the spatial axes of ``x``.

    Returns:
        The result, of shape (N, channels, *(sizes * factors)).
    """
    enlarged = list(sizes)
    for axis in reversed(range(len(factors))):
        factor = factors[axis]
        if factor == 1:
            continue
        outer = a.product([channels, *(int64(f) for f in factors[:axis])])
        inner, rest = a.product(sizes[: axis + 1]), enlarged[axis + 1 :]
        x = _swap(a, x, [outer, int64(factor), inner], rest)
        enlarged[axis] = a.compute("Mul", sizes[axis], int64(factor))
    return a.reshape(x, [0, channels, *enlarged])


def pixel_unshuffle(
    a: Arithmetic, x: ir.Value, *, channels: Number, factors: Sequence[int], sizes: Sequence[Number]
) -> ir.Value:
    """Adds nodes that gather the phases of space in the channels: the inverse of `pixel_shuffle`.

    Args:
        a: where to.
        x: shape (N, channels, *(sizes * factors)).
        channels: how many channels ``x`` has.
        factors: the number of phases per axis.
        sizes: of the spatial axes of the result.

    Returns:
        The result, of shape (N, channels * prod(factors), *sizes).
    """
    enlarged = [a.compute("Mul", size, int64(factor)) for size, factor in zip(sizes, factors)]
    for axis, factor in enumerate(factors):
        if factor == 1:
            continue
        outer = a.product([channels, *(int64(f) for f in factors[:axis])])
        x = _swap(a, x, [outer, a.product(sizes[: axis + 1]), int64(factor)], enlarged[axis + 1 :])
    return a.reshape(x, [0, a.product([channels, *(int64(f) for f in factors)]), *sizes])


def _swap(a: Arithmetic, x: ir.Value, dims: Sequence[Number], rest: Sequence[Number]) -> ir.Value:
    """Views ``x`` as (N, outer, p, q, rest) and swaps p and q."""
    if rest:
        return a.emit("Transpose", a.reshape(x, [0, *dims, a.product(rest)]), perm=[0, 1, 3, 2, 4])
    return a.emit("Transpose", a.reshape(x, [0, *dims]), perm=[0, 1, 3, 2])
