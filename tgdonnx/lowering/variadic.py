"""Sum, Mean, Max and Min of any number of inputs, two at a time.

    Sum   a + b + ...                         Mean  (a + b + ...) / n
    Max   a p + b (1 - p), p = [a > b]        Min   the same with p = [a < b]

From operator set 12 on the runtime differentiates Max and Min itself.
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerVariadic(Lowering):
    """Replaces Sum and Mean, and Max and Min of old operator sets."""

    op_types: ClassVar = frozenset(["Sum", "Mean", "Max", "Min"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes a chain of nodes with two inputs each."""
        if node.op_type in ("Max", "Min") and emit.opset >= 12:
            return None
        first, *others = [value for value in node.inputs if value is not None]
        result = first
        for other in others:
            if node.op_type in ("Sum", "Mean"):
                result = emit("Add", result, other)
            else:
                result = _extreme(emit, "Greater" if node.op_type == "Max" else "Less", result, other)
        if node.op_type == "Mean" and others:
            result = emit("Div", result, emit.scalar(1 + len(others)))
        return result


def _extreme(emit: Emitter, comparison: str, a: ir.Value, b: ir.Value) -> ir.Value:
    first = emit.mask(comparison, a, b)
    return emit("Add", emit("Mul", a, first), emit("Mul", b, emit.complement(first)))
