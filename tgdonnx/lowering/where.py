"""Where with operands that broadcast: the runtime gives them gradients that are too large by the broadcast dimensions.

    c ? a : b   =   c ? a + 0 : b + 0        where the zeros have the shape of the result

A sum has the right gradient for operands that broadcast. Operands whose shape is known to be that of the result stay as
they are, and so do constants of one element.
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import required_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerWhere(Lowering):
    """Replaces every Where but those of equal shapes."""

    op_types: ClassVar = frozenset(["Where"])
    data_input: ClassVar = 1

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the selection with operands of its own shape."""
        condition, a, b = (required_input(node, index) for index in range(3))
        shape = node.outputs[0].shape
        whole = [_is_small_constant(value) or _has_shape(value, shape) for value in (a, b)]
        if all(whole):
            return None
        selected = emit("Where", condition, a, b)
        zeros = emit.mask("Less", selected, selected)
        operands = [value if kept else emit("Add", value, zeros) for value, kept in zip((a, b), whole)]
        return emit("Where", condition, *operands)


def _is_small_constant(value: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(value)
    return tensor is not None and tensor.size == 1


def _has_shape(value: ir.Value, shape: Optional[ir.Shape]) -> bool:
    own = value.shape
    if own is None or shape is None or len(own) != len(shape):
        return False
    return all(mine == other and mine != ir.SymbolicDim(None) for mine, other in zip(own, shape))
