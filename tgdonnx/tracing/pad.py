"""Pad: new elements are constants, or copies of elements of the same channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tgdonnx.tracing.origins import OriginIds, OriginTable
from tgdonnx.tracing.rule import Rule, UntraceableError


def _pad(node: ir.Node, inputs: Sequence[OriginIds], table: OriginTable) -> OriginIds:
    ids = inputs[0]
    if len(node.inputs) > 2 and table[int(inputs[2].flat[0])].producers:
        raise UntraceableError("the value it pads with is computed by layers")
    before, after = _pads(node, ids.ndim)
    for axis in range(ids.ndim):
        if ids.shape[axis] == 1 or not (before[axis] or after[axis]):
            continue  # the same origin all along: copies have it too, and a constant adds none
        mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
        if mode != "constant" or before[axis] < 0 or after[axis] < 0:
            raise UntraceableError(f"it pads axis {axis}, along which maps differ, with mode {mode!r}")
        widths = [(before[axis], after[axis]) if a == axis else (0, 0) for a in range(ids.ndim)]
        ids = np.pad(ids, widths, constant_values=int(table.constant))
    return ids


def _pads(node: ir.Node, rank: int) -> tuple[list[int], list[int]]:
    """Returns how much is added before and after each axis."""
    if "pads" in node.attributes:
        pads = list(node.attributes["pads"].as_ints())
    else:
        tensor = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
        if tensor is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
            raise UntraceableError("its pads are computed, or are given for some axes only")
        pads = [int(pad) for pad in tensor.numpy()]
    if rank == 0 and pads:
        rank = len(pads) // 2
    if len(pads) != 2 * rank:
        raise UntraceableError(f"it has {len(pads)} pads for {rank} axes")
    return pads[:rank], pads[rank:]


RULES: dict[str, Rule] = {"Pad": _pad}
