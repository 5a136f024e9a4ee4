"""Pad with what is inside: reflect, edge and wrap.

One axis after the other: crop what negative pads take off, then join strips to both ends,

              before                        after                   of n elements, of which strips are gathered
    reflect   b, ..., 1                     -2, ..., -1 - a         negative indices count from the end,
    edge      0, ..., 0                     -1, ..., -1             so that n need not be known
    wrap      -b, ..., -1                   0, ..., a - 1
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.nodes import first_input, optional_input
from tgdonnx.lowering.emitting import Emitter, Lowering

_Pads = NDArray[np.int64]


@final
class LowerPad(Lowering):
    """Replaces every Pad but those in constant mode."""

    op_types: ClassVar = frozenset(["Pad"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the padding as Gather and Concat."""
        mode, listed = node.attributes.get_string("mode", "constant"), optional_input(node, 3)
        if mode == "constant":
            return None
        x, rank = first_input(node), emit.rank(first_input(node))
        axes = list(range(rank)) if listed is None else [axis % rank for axis in _axes(emit, listed)]
        before, after = _pads(emit, node).reshape(2, -1)
        for axis, start, end in zip(axes, before.tolist(), after.tolist()):
            x = _crop(emit, x, axis, max(-start, 0), max(-end, 0))
            first, last = _strips(mode, max(start, 0), max(end, 0))
            strips = [
                emit("Gather", x, emit.constant(each), axis=axis) if each.size else None for each in (first, last)
            ]
            present = [part for part in (strips[0], x, strips[1]) if part is not None]
            x = emit("Concat", *present, axis=axis) if len(present) > 1 else x
        return x


def _axes(emit: Emitter, listed: ir.Value) -> list[int]:
    axes = known_array(listed)
    if axes is None:
        raise emit.refusal("computes which axes it pads", "make its axes a constant")
    return [int(axis) for axis in axes.reshape(-1)]


def _pads(emit: Emitter, node: ir.Node) -> _Pads:
    given = optional_input(node, 1)
    assert given is not None
    pads = known_array(given)
    if pads is None:
        raise emit.refusal("computes its pads from its input", "make its pads a constant")
    return pads.reshape(-1).astype(np.int64)


def _crop(emit: Emitter, x: ir.Value, axis: int, before: int, after: int) -> ir.Value:
    if not before and not after:
        return x
    end = -after if after else np.iinfo(np.int64).max
    return emit("Slice", x, emit.ints(before), emit.ints(end), emit.ints(axis))


def _strips(mode: str, before: int, after: int) -> tuple[_Pads, _Pads]:
    """Returns what the padding repeats: the indices before the first element, and behind the last."""
    if mode == "reflect":
        return np.arange(before, 0, -1), -2 - np.arange(after)
    if mode == "wrap":
        return np.arange(-before, 0), np.arange(after)
    return np.zeros(before, np.int64), np.full(after, -1)
