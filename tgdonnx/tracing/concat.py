"""Concat: the origins of the inputs one after the other, along the same axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tgdonnx.layers import static_shape
from tgdonnx.tracing.origins import OriginIds, OriginTable
from tgdonnx.tracing.rule import Rule, UntraceableError, int_attribute


def _concat(node: ir.Node, inputs: Sequence[OriginIds], table: OriginTable) -> OriginIds:
    if all(ids.size == 1 and ids.flat[0] == inputs[0].flat[0] for ids in inputs):
        return max(inputs, key=np.ndim)  # the same origin everywhere, whatever the sizes
    rank = max(ids.ndim for ids in inputs)
    axis = int_attribute(node, "axis")
    if axis is None or rank == 0:
        raise UntraceableError("its axis is not given" if axis is None else "the rank of its inputs is not known")
    axis %= rank
    parts = [_full_length(value, ids, rank, axis) for value, ids in zip(node.inputs, inputs)]
    others = np.broadcast_shapes(*((*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts))
    return np.concatenate(
        [np.broadcast_to(part, (*others[:axis], part.shape[axis], *others[axis + 1 :])) for part in parts], axis=axis
    )


def _full_length(value: ir.Value | None, ids: OriginIds, rank: int, axis: int) -> OriginIds:
    """Repeats the one origin along ``axis`` of an input as often as the input is long there."""
    if ids.ndim == 0:
        ids = ids.reshape((1,) * rank)
    if ids.shape[axis] > 1:
        return ids
    shape = static_shape(value)
    length = shape[axis] if shape is not None and len(shape) == rank else None
    if length is None:
        name = value.name if value is not None else ""
        raise UntraceableError(f"the length of its input {name!r} along axis {axis} is not known")
    return np.repeat(ids, length, axis=axis)


RULES: dict[str, Rule] = {"Concat": _concat}
