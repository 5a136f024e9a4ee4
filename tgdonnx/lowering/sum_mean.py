"""Sum and Mean of any number of inputs, two at a time.

Sum   a + b + ...                         Mean  (a + b + ...) / n
"""

from __future__ import annotations

from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerSumMean(Lowering):
    """Replaces Sum and Mean."""

    op_types: ClassVar = frozenset(["Sum", "Mean"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes a chain of nodes with two inputs each."""
        first, *others = [value for value in node.inputs if value is not None]
        result = first
        for other in others:
            result = emit("Add", result, other)
        if node.op_type == "Mean" and others:
            result = emit("Div", result, emit.scalar(1 + len(others)))
        return result
