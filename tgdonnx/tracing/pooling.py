"""Pooling over space: every channel keeps its origin."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tgdonnx.tracing.origins import OriginIds, OriginTable
from tgdonnx.tracing.rule import Rule


def _pool(node: ir.Node, inputs: Sequence[OriginIds], table: OriginTable) -> OriginIds:
    # Axes 2 and up are pooled: what varies along them (after a Concat in space, say) mixes.
    ids = inputs[0]
    return table.union_along(ids, tuple(range(2, ids.ndim)))


RULES: dict[str, Rule] = dict.fromkeys(("MaxPool", "AveragePool"), _pool)
