"""Activation functions made of straight pieces, by masks of the pieces.

PRelu            x (p + slope (1 - p))          p = [x > 0]; slope stays the parameter
HardSigmoid      clip(alpha x + beta, 0, 1)
HardSwish        x clip(x / 6 + 1/2, 0, 1)
ThresholdedRelu  x [x > alpha]
Shrink           x ([x > lambd] + [x < -lambd]) + bias ([x < -lambd] - [x > lambd])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerPiecewise(Lowering):
    """Replaces the piecewise linear activation functions that the runtime cannot differentiate."""

    op_types: ClassVar = frozenset(["PRelu", "HardSigmoid", "HardSwish", "ThresholdedRelu", "Shrink"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the function in operators that have a gradient."""
        return _FUNCTIONS[node.op_type](emit, first_input(node), node)


def _prelu(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    slope = required_input(node, 1)
    positive = emit.mask("Greater", x, emit.scalar(0))
    sloped = emit("Mul", emit.complement(positive), slope)
    return emit("Mul", x, emit("Add", sloped, positive))


def _hard_sigmoid(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    return _to_unit_interval(emit, emit("Add", emit("Mul", x, emit.scalar(alpha)), emit.scalar(beta)))


def _hard_swish(emit: Emitter, x: ir.Value, _node: ir.Node) -> ir.Value:
    gate = _to_unit_interval(emit, emit("Add", emit("Mul", x, emit.scalar(1 / 6)), emit.scalar(0.5)))
    return emit("Mul", x, gate)


def _thresholded_relu(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = node.attributes.get_float("alpha", 1.0)
    return emit("Mul", x, emit.mask("Greater", x, emit.scalar(alpha)))


def _shrink(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    bias, lambd = node.attributes.get_float("bias", 0.0), node.attributes.get_float("lambd", 0.5)
    above, below = emit.mask("Greater", x, emit.scalar(lambd)), emit.mask("Less", x, emit.scalar(-lambd))
    kept = emit("Mul", x, emit("Add", above, below))
    return emit("Add", kept, emit("Mul", emit("Sub", below, above), emit.scalar(bias))) if bias else kept


def _to_unit_interval(emit: Emitter, x: ir.Value) -> ir.Value:
    return emit("Clip", x, emit.scalar(0), emit.scalar(1))


_FUNCTIONS: Mapping[str, Callable[[Emitter, ir.Value, ir.Node], ir.Value]] = {
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "ThresholdedRelu": _thresholded_relu,
    "Shrink": _shrink,
}
