"""GlobalMaxPool and GlobalLpPool, the reductions over all axes from the third on.

    GlobalMaxPool   max x
    GlobalLpPool    (sum |x|^p)^(1/p)

Unlike MaxPool over the whole input, they need not know how large it is.
"""

from __future__ import annotations

from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.emitting import Emitter, Lowering
from tgdonnx.lowering.reductions import absolute, euclidean, maximum


@final
class LowerGlobalPool(Lowering):
    """Replaces GlobalMaxPool and GlobalLpPool."""

    op_types: ClassVar = frozenset(["GlobalMaxPool", "GlobalLpPool"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the pooling as a sum."""
        x = first_input(node)
        axes = list(range(2, emit.rank(x)))
        if node.op_type == "GlobalMaxPool":
            return maximum(emit, x, axes, True)
        order = node.attributes.get_int("p", 2)
        if order in (1, 2):
            return (absolute if order == 1 else euclidean)(emit, x, axes, True)
        powers = emit("Pow", emit("Abs", x), emit.scalar(order))
        return emit("Pow", emit.reduce("ReduceSum", powers, axes), emit.scalar(1 / order))
