"""Operators that are newer than the operator set that training knows, in the words of that set.

    RMSNormalization   x / sqrt(mean(x^2) + epsilon) * scale, over the axes from one on
    Swish              x / (1 + exp(-alpha x))

They have to be written before the model is declared to be of the older set, and in whatever precision the model computes in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering

_REALS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@final
class LowerNewOperators(Lowering):
    """Replaces operators that operator set 21 does not have."""

    op_types: ClassVar = frozenset(["RMSNormalization", "Swish"])
    dtypes: ClassVar = _REALS

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the function in operators that there are in set 21."""
        return _FUNCTIONS[node.op_type](emit, first_input(node), node)


def _root_mean_square(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    if node.attributes.get_int("stash_type", 1) not in (ir.DataType.FLOAT.value, x.dtype):
        raise emit.refusal("computes in another type than the model", "set its attribute stash_type to 1")
    axis = node.attributes.get_int("axis", -1)
    axes = list(range(axis, 0)) if axis < 0 else list(range(axis, emit.rank(x)))
    squares = emit.reduce("ReduceMean", emit("Mul", x, x), axes)
    epsilon = emit.scalar(node.attributes.get_float("epsilon", 1e-5), x)
    return emit("Mul", emit("Div", x, emit("Sqrt", emit("Add", squares, epsilon))), required_input(node, 1))


def _swish(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = node.attributes.get_float("alpha", 1.0)
    return emit("Mul", x, emit("Sigmoid", x if alpha == 1 else emit("Mul", x, emit.scalar(alpha, x))))


_FUNCTIONS: Mapping[str, Callable[[Emitter, ir.Value, ir.Node], ir.Value]] = {
    "RMSNormalization": _root_mean_square,
    "Swish": _swish,
}
