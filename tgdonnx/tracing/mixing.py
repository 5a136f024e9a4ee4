"""Operators that mix along some axes: what comes out depends on everything along them. The other axes keep apart.

Reductions, softmax and its kin, normalisations by the statistics of the data, pooling over space, and sorting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tgdonnx.graphs.operators import EXTREME_PLACES, GLOBAL_POOLS, POOLS, REDUCTIONS, SOFTMAXES
from tgdonnx.tracing.origins import OriginIds
from tgdonnx.tracing.rule import Rule, Site, UntraceableError, of_rank


def _mix(site: Site, ids: OriginIds, axes: Sequence[int]) -> OriginIds:
    return site.table.union_along(ids, tuple(axis % ids.ndim for axis in axes)) if ids.ndim else ids


def _affine(site: Site) -> None:
    """Checks that scale and offset are no activations."""
    for ids in site.ids[1:]:
        if any(site.table[int(i)].producers or site.table[int(i)].opaque for i in ids.flat):
            raise UntraceableError("its scale or offset is computed by layers")


def _reduce(site: Site) -> OriginIds:
    ids = site.ids[0]
    if ids.ndim == 0:
        return ids
    axes = site.stored_integers(1, "axes")
    if not axes:
        if site.integer("noop_with_empty_axes"):
            return ids
        axes = list(range(ids.ndim))
    axes = [axis % ids.ndim for axis in axes]
    ids = _mix(site, ids, axes)
    return ids if site.integer("keepdims") else ids.squeeze(tuple(axes))


def _arg(site: Site) -> OriginIds:
    ids = site.ids[0]
    if ids.ndim == 0:
        return ids
    axis = site.integer("axis") % ids.ndim
    ids = _mix(site, ids, [axis])
    return ids if site.integer("keepdims") else ids.squeeze(axis)


def _softmax(site: Site) -> OriginIds:
    ids = site.ids[0]
    axis = site.integer("axis")
    if site.opset < 13:  # then it normalises over all axes from `axis` on
        return _mix(site, ids, range(axis % ids.ndim if ids.ndim else 0, ids.ndim))
    return _mix(site, ids, [axis])


def _along_axis(site: Site) -> OriginIds:
    if site.node.op_type == "CumSum":
        (axis,) = site.stored_integers(1, "axis") or [0]
    else:
        axis = site.integer("axis", -1)
    return _mix(site, site.ids[0], [axis])


def _pool(site: Site) -> OriginIds:
    ids = site.ids[0]
    return _mix(site, ids, range(2, ids.ndim))


def _instance_norm(site: Site) -> OriginIds:
    _affine(site)
    return _pool(site)


def _layer_norm(site: Site) -> OriginIds:
    _affine(site)
    ids = site.ids[0]
    axis = site.integer("axis")
    return _mix(site, ids, range(axis % ids.ndim if ids.ndim else 0, ids.ndim))


def _group_norm(site: Site) -> OriginIds:
    _affine(site)
    ids = _pool(site)
    groups = site.integer("num_groups")
    if ids.ndim < 2 or ids.shape[1] == 1:
        return ids
    grouped = ids.reshape(ids.shape[0], groups, -1)
    mixed = np.repeat(site.table.union_along(grouped, (2,)), grouped.shape[2], axis=2)
    return mixed.reshape(ids.shape)


def _mean_variance(site: Site) -> OriginIds:
    return _mix(site, site.ids[0], site.integers("axes") or [0, 2, 3])


def _lrn(site: Site) -> OriginIds:
    ids, size = site.ids[0], site.integer("size")
    if ids.ndim < 2 or ids.shape[1] == 1:
        return ids
    before, after = math.floor((size - 1) / 2), math.ceil((size - 1) / 2)
    channels = ids.shape[1]
    windows = [ids[:, max(0, c - before) : c + after + 1] for c in range(channels)]
    return np.concatenate([site.table.union_along(window, (1,)) for window in windows], axis=1)


def _top_k(site: Site) -> OriginIds:
    return _mix(site, of_rank(site.ids[0], len(site.shape())), [site.integer("axis")])


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
