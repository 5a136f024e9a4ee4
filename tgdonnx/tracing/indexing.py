"""Operators that take out, or surround, parts of an activation: Slice, Split, Gather, Pad."""

from __future__ import annotations

import numpy as np

from tgdonnx.tracing.origins import OriginIds
from tgdonnx.tracing.rule import Rule, TracingView, UntraceableError, full_length, of_rank, require_length


def _slice(view: TracingView) -> OriginIds:
    ids = of_rank(view.ids[0], len(view.shape()))
    starts, ends, axes, steps = (
        view.stored_integers(place, name) for place, name in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    for index, (start, end) in enumerate(zip(starts or [], ends or [])):
        axis = (axes[index] if axes else index) % ids.ndim
        if ids.shape[axis] > 1:
            step = steps[index] if steps else 1
            # ONNX clamps as Python does, but for the end of a backward slice that runs to the first element.
            stop = None if step < 0 and end < -ids.shape[axis] else end
            ids = ids[(slice(None),) * axis + (slice(start, stop, step),)]
    return ids if ids.size else np.full((1,) * ids.ndim, int(view.table.constant))


def _split(view: TracingView) -> list[OriginIds]:
    ids = of_rank(view.ids[0], len(view.shape()))
    axis = view.integer("axis") % ids.ndim
    if ids.shape[axis] == 1:
        return [ids] * len(view.node.outputs)
    lengths = [view.output_shape(index)[axis] for index in range(len(view.node.outputs))]
    return np.split(ids, np.cumsum(lengths)[:-1], axis=axis)


def _gather(view: TracingView) -> OriginIds:
    ids = of_rank(view.ids[0], len(view.shape()))
    axis = view.integer("axis") % ids.ndim
    if any(view.table[int(i)] != view.table[int(view.table.constant)] for i in view.ids[1].flat):
        raise UntraceableError("its indices depend on the data")
    rank = len(view.shape(1))
    if ids.shape[axis] == 1:
        return ids.reshape((*ids.shape[:axis], *(1,) * rank, *ids.shape[axis + 1 :]))
    indices = view.stored(1, "indices")
    assert indices is not None
    require_length(ids.size // max(1, ids.shape[axis]) * indices.size)
    return np.take(ids, indices.astype(np.int64), axis=axis)


def _pad(view: TracingView) -> OriginIds:
    shape = view.shape()
    ids = of_rank(view.ids[0], len(shape))
    if view.has(2) and any(view.table[int(i)].producers for i in view.ids[2].flat):
        raise UntraceableError("the value it pads with is computed by layers")
    before, after = _pads(view, len(shape))
    mode = view.text("mode")
    for axis in range(ids.ndim):
        widths = (before[axis], after[axis])
        if not any(widths) or (ids.shape[axis] == 1 and (mode != "constant" or axis != 1 or min(widths) < 0)):
            continue  # copies of the one origin there is; in space a constant border adds none
        ids = full_length(ids, shape, axis)
        ids = ids[(slice(None),) * axis + (slice(max(0, -widths[0]), ids.shape[axis] - max(0, -widths[1])),)]
        added = [(max(0, w) for w in widths) if a == axis else (0, 0) for a in range(ids.ndim)]
        pairs = [tuple(pair) for pair in added]
        require_length(ids.size // max(1, ids.shape[axis]) * (ids.shape[axis] + sum(max(0, w) for w in widths)))
        if mode == "constant":
            ids = np.pad(ids, pairs, constant_values=int(view.table.constant))
        else:
            ids = np.pad(ids, pairs, mode={"reflect": "reflect", "edge": "edge", "wrap": "wrap"}[mode])  # type: ignore[call-overload]
    return ids


def _pads(view: TracingView, rank: int) -> tuple[list[int], list[int]]:
    """Returns how much is added before and after each axis."""
    pads = view.integers("paddings") or view.stored_integers(1, "pads") or []
    axes = view.stored_integers(3, "axes") or list(range(rank))
    if len(pads) != 2 * len(axes):
        raise UntraceableError(f"it has {len(pads)} pads for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for index, axis in enumerate(axes):
        before[axis], after[axis] = pads[index], pads[index + len(axes)]
    return before, after


RULES: dict[str, Rule] = {"Gather": _gather, "Pad": _pad, "Slice": _slice, "Split": _split}
