"""GlobalLpPool, a reduction over all axes from the third on: (sum |x|^p)^(1/p)."""

from __future__ import annotations

from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerGlobalPool(Lowering):
    """Replaces GlobalLpPool."""

    op_types: ClassVar = frozenset(["GlobalLpPool"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the pooling as a reduction."""
        x = first_input(node)
        axes, order = list(range(2, emit.rank(x))), node.attributes.get_int("p", 2)
        if order in (1, 2):
            return emit.reduce(f"ReduceL{order}", x, axes)
        powers = emit("Pow", emit("Abs", x), emit.scalar(order))
        return emit("Pow", emit.reduce("ReduceSum", powers, axes), emit.scalar(1 / order))
