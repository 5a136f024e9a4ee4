"""LpNormalization: x divided by its norm along an axis, and 0 where that is 0.

    p = 1: x / sum |x|          p = 2: x / sqrt(sum x^2)

Where the sum is 0 it counts as 1: then the result is 0, and the gradient finite.
"""

from __future__ import annotations

from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerLpNormalization(Lowering):
    """Replaces LpNormalization."""

    op_types: ClassVar = frozenset(["LpNormalization"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the normalisation as a reduction and a quotient."""
        x, order = first_input(node), node.attributes.get_int("p", 2)
        axis = node.attributes.get_int("axis", -1)
        powers = emit("Abs", x) if order == 1 else emit.square(x)
        total = without_zeros(emit, emit.reduce("ReduceSum", powers, [axis]))
        return emit("Div", x, total if order == 1 else emit("Sqrt", total))


def without_zeros(emit: Emitter, x: ir.Value) -> ir.Value:
    """Writes x, which is not negative, with 1 in place of 0."""
    return emit("Add", x, emit.complement(emit.mask("Greater", x, emit.scalar(0))))
