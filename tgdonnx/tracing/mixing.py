"""Operators that mix along some axes: what comes out depends on everything along them. The other axes keep apart.

Reductions, softmax and its kin, normalisations by the statistics of the data, pooling over space, and sorting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tgdonnx.graphs.operators import EXTREME_PLACES, GLOBAL_POOLS, POOLS, REDUCTIONS, SOFTMAXES
from tgdonnx.tracing.origins import OriginIds
from tgdonnx.tracing.rule import Rule, TracingView, UntraceableError, of_rank


def _mix(view: TracingView, ids: OriginIds, axes: Sequence[int]) -> OriginIds:
    return view.table.union_along(ids, tuple(axis % ids.ndim for axis in axes)) if ids.ndim else ids


def _affine(view: TracingView) -> None:
    """Checks that scale and offset are no activations."""
    for ids in view.ids[1:]:
        if any(view.table[int(i)].producers or view.table[int(i)].opaque for i in ids.flat):
            raise UntraceableError("its scale or offset is computed by layers")


def _reduce(view: TracingView) -> OriginIds:
    ids = view.ids[0]
    if ids.ndim == 0:
        return ids
    axes = view.stored_integers(1, "axes")
    if not axes:
        if view.integer("noop_with_empty_axes"):
            return ids
        axes = list(range(ids.ndim))
    axes = [axis % ids.ndim for axis in axes]
    ids = _mix(view, ids, axes)
    return ids if view.integer("keepdims") else ids.squeeze(tuple(axes))


def _arg(view: TracingView) -> OriginIds:
    ids = view.ids[0]
    if ids.ndim == 0:
        return ids
    axis = view.integer("axis") % ids.ndim
    ids = _mix(view, ids, [axis])
    return ids if view.integer("keepdims") else ids.squeeze(axis)


def _softmax(view: TracingView) -> OriginIds:
    ids = view.ids[0]
    axis = view.integer("axis")
    if view.opset < 13:  # then it normalises over all axes from `axis` on
        return _mix(view, ids, range(axis % ids.ndim if ids.ndim else 0, ids.ndim))
    return _mix(view, ids, [axis])


def _along_axis(view: TracingView) -> OriginIds:
    if view.node.op_type == "CumSum":
        (axis,) = view.stored_integers(1, "axis") or [0]
    else:
        axis = view.integer("axis", -1)
    return _mix(view, view.ids[0], [axis])


def _pool(view: TracingView) -> OriginIds:
    ids = view.ids[0]
    return _mix(view, ids, range(2, ids.ndim))


def _instance_norm(view: TracingView) -> OriginIds:
    _affine(view)
    return _pool(view)


def _layer_norm(view: TracingView) -> OriginIds:
    _affine(view)
    ids = view.ids[0]
    axis = view.integer("axis")
    return _mix(view, ids, range(axis % ids.ndim if ids.ndim else 0, ids.ndim))


def _group_norm(view: TracingView) -> OriginIds:
    _affine(view)
    ids = _pool(view)
    groups = view.integer("num_groups")
    if ids.ndim < 2 or ids.shape[1] == 1:
        return ids
    grouped = ids.reshape(ids.shape[0], groups, -1)
    mixed = np.repeat(view.table.union_along(grouped, (2,)), grouped.shape[2], axis=2)
    return mixed.reshape(ids.shape)


def _mean_variance(view: TracingView) -> OriginIds:
    return _mix(view, view.ids[0], view.integers("axes") or [0, 2, 3])


def _lrn(view: TracingView) -> OriginIds:
    ids, size = view.ids[0], view.integer("size")
    if ids.ndim < 2 or ids.shape[1] == 1:
        return ids
    before, after = math.floor((size - 1) / 2), math.ceil((size - 1) / 2)
    channels = ids.shape[1]
    windows = [ids[:, max(0, c - before) : c + after + 1] for c in range(channels)]
    return np.concatenate([view.table.union_along(window, (1,)) for window in windows], axis=1)


def _top_k(view: TracingView) -> OriginIds:
    return _mix(view, of_rank(view.ids[0], len(view.shape())), [view.integer("axis")])


RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(EXTREME_PLACES, _arg),
    **dict.fromkeys(SOFTMAXES, _softmax),
    **dict.fromkeys(("CumSum", "LpNormalization"), _along_axis),
    **dict.fromkeys(POOLS | GLOBAL_POOLS, _pool),
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_norm),
    "LRN": _lrn,
    "MeanVarianceNormalization": _mean_variance,
    "TopK": _top_k,
}
