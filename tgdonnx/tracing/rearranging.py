"""Operators that only move elements: other axes, the same elements in the same order, repeats, space for depth."""

from __future__ import annotations

import math

import numpy as np

from tgdonnx.graphs.operators import RESHAPING, RESIZES
from tgdonnx.layers.sizes import Shape
from tgdonnx.tracing.origins import OriginIds
from tgdonnx.tracing.rule import Rule, TracingView, UntraceableError, compressed, full_length, of_rank, require_length


def reshape(ids: OriginIds, before: Shape, after: Shape) -> OriginIds:
    """Reshapes the origins of an activation of shape ``before`` into those of shape ``after``.

    Neighbouring axes are taken together until their products agree, as in (2, | 6, 4, | 5) and (2, | 3, 8, | 5). Only
    groups in which origins differ are written out.
    """
    ids = of_rank(ids, len(before))
    if 0 in before or 0 in after:
        return np.full((1,) * len(after), ids.flat[0])
    pieces, start = [], 0
    shape: list[int] = []
    end = 0
    for first, last, new_first, new_last in _groups(before, after):
        part = ids.shape[first:last]
        pieces.append(before[first:last] if any(n > 1 for n in part) else part)
        shape += after[new_first:new_last] if any(n > 1 for n in part) else [1] * (new_last - new_first)
        start, end = last, new_last
    assert start == len(before)
    assert end == len(after)
    require_length(math.prod(n for piece in pieces for n in piece))
    written_out = np.broadcast_to(ids, [n for piece in pieces for n in piece])
    return compressed(written_out.reshape(shape))


def _groups(before: Shape, after: Shape) -> list[tuple[int, int, int, int]]:
    groups = []
    i = j = 0
    while i < len(before) or j < len(after):
        first, new_first = i, j
        left = right = 1
        if i < len(before):
            left, i = before[i], i + 1
        if j < len(after):
            right, j = after[j], j + 1
        while left != right:
            if left < right and i < len(before):
                left, i = left * before[i], i + 1
            elif j < len(after):
                right, j = right * after[j], j + 1
            else:
                raise UntraceableError(f"it reshapes {list(before)} to {list(after)}")
        groups.append((first, i, new_first, j))
    return groups


def _reshape(view: TracingView) -> OriginIds:
    return reshape(view.ids[0], view.shape(), view.output_shape())


def _transpose(view: TracingView) -> OriginIds:
    ids, order = view.ids[0], view.integers("perm")
    if ids.ndim and order is not None and sorted(order) != [*range(ids.ndim)]:
        raise UntraceableError(f"its permutation of {ids.ndim} axes is {order}")
    return ids.transpose(order) if ids.ndim else ids


def _expand(view: TracingView) -> OriginIds:
    ids, rank = view.ids[0], len(view.output_shape())
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)


def _tile(view: TracingView) -> OriginIds:
    ids = of_rank(view.ids[0], len(view.shape()))
    repeats = view.stored(1, "repeats")
    if repeats is None or len(repeats) != ids.ndim:
        raise UntraceableError("its repeats do not fit its input")
    copies = [max(0, int(r)) if n > 1 else 1 for r, n in zip(repeats, ids.shape)]
    require_length(ids.size * math.prod(copies))
    return np.tile(ids, copies)


def _depth_to_space(view: TracingView) -> OriginIds:
    ids, (n, c, h, w), b = view.ids[0], _four(view), view.integer("blocksize")
    if view.text("mode", "DCR") == "DCR":
        split, order = (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3)
    moved = reshape(ids, (n, c, h, w), split).transpose(order)
    return reshape(moved, tuple(split[axis] for axis in order), (n, c // b**2, h * b, w * b))


def _space_to_depth(view: TracingView) -> OriginIds:
    ids, (n, c, h, w), b = view.ids[0], _four(view), view.integer("blocksize")
    split, order = (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4)
    moved = reshape(ids, (n, c, h, w), split).transpose(order)
    return reshape(moved, tuple(split[axis] for axis in order), (n, c * b**2, h // b, w // b))


def _four(view: TracingView) -> tuple[int, int, int, int]:
    shape = view.shape()
    if len(shape) != 4:
        raise UntraceableError(f"expected 4 axes, found {len(shape)}")
    return shape[0], shape[1], shape[2], shape[3]


def _resize(view: TracingView) -> OriginIds:
    ids, before, after = of_rank(view.ids[0], len(view.shape())), view.shape(), view.output_shape()
    for axis in range(ids.ndim):
        if ids.shape[axis] == 1:
            continue
        cropped = view.text("coordinate_transformation_mode") == "tf_crop_and_resize"
        if before[axis] != after[axis] or cropped:
            # Along a resized axis neighbours mix; maps that differ along it are no longer told apart.
            if axis == 1:
                raise UntraceableError("it resizes the axis of the channels")
            ids = view.table.union_along(ids, (axis,))
    return ids


def _concat(view: TracingView) -> OriginIds:
    rank = len(view.output_shape())
    axis = view.integer("axis", 1) % rank  # of opset 1 the default is in the prose
    arrays = [of_rank(ids, rank) for ids in view.ids]
    if all(ids.shape[axis] == 1 and (ids == arrays[0]).all() for ids in arrays if ids.shape == arrays[0].shape) and all(
        ids.shape == arrays[0].shape for ids in arrays
    ):
        return arrays[0]  # the same along the axis in all of them
    require_length(
        sum(
            math.prod(ids.shape) // max(1, ids.shape[axis]) * view.shape(index)[axis]
            for index, ids in enumerate(arrays)
        )
    )
    parts = [full_length(ids, view.shape(index), axis) for index, ids in enumerate(arrays)]
    others = np.broadcast_shapes(*((*part.shape[:axis], 1, *part.shape[axis + 1 :]) for part in parts))
    return np.concatenate(
        [np.broadcast_to(part, (*others[:axis], part.shape[axis], *others[axis + 1 :])) for part in parts], axis=axis
    )


RULES: dict[str, Rule] = {
    **dict.fromkeys(RESHAPING, _reshape),
    **dict.fromkeys(RESIZES, _resize),
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
    "Transpose": _transpose,
}
