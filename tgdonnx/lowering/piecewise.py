"""Activation functions made of straight pieces, by masks of the pieces.

PRelu            x (p + slope (1 - p))          p = [x > 0]; slope stays the parameter
HardSigmoid      clip(alpha x + beta, 0, 1)
HardSwish        x clip(x / 6 + 1/2, 0, 1)
ThresholdedRelu  x [x > alpha]
Shrink           x ([x > lambd] + [x < -lambd]) + bias ([x < -lambd] - [x > lambd])
Abs              x ([x > 0] - [x < 0]) in operator set 8, which lacks an operator that its gradient is made of
Clip             with a mask for either limit, before operator set 12: there the runtime ignores the limits in the
                 gradient (attributes), or cannot build it (inputs of operator set 11)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Optional, final

import numpy as np
import onnx_ir as ir

from tgdonnx.lowering.emitting import Emitter, Lowering, first_input, optional_input, required_input


@final
class LowerPiecewise(Lowering):
    """Replaces the piecewise linear activation functions that the runtime cannot differentiate."""

    op_types: ClassVar = frozenset(["PRelu", "HardSigmoid", "HardSwish", "ThresholdedRelu", "Shrink", "Abs", "Clip"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the function in operators that have a gradient."""
        return _FUNCTIONS[node.op_type](emit, first_input(node), node)


def _prelu(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    slope = required_input(node, 1)
    positive = emit.mask("Greater", x, emit.scalar(0))
    sloped = emit("Mul", emit.complement(positive), slope)
    return emit("Mul", x, emit("Add", sloped, positive))


def _hard_sigmoid(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    return emit.clip(emit("Add", emit("Mul", x, emit.scalar(alpha)), emit.scalar(beta)), 0, 1)


def _hard_swish(emit: Emitter, x: ir.Value, _node: ir.Node) -> ir.Value:
    gate = emit.clip(emit("Add", emit("Mul", x, emit.scalar(1 / 6)), emit.scalar(0.5)), 0, 1)
    return emit("Mul", x, gate)


def _thresholded_relu(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = node.attributes.get_float("alpha", 1.0)
    return emit("Mul", x, emit.mask("Greater", x, emit.scalar(alpha)))


def _shrink(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    bias, lambd = node.attributes.get_float("bias", 0.0), node.attributes.get_float("lambd", 0.5)
    above, below = emit.mask("Greater", x, emit.scalar(lambd)), emit.mask("Less", x, emit.scalar(-lambd))
    kept = emit("Mul", x, emit("Add", above, below))
    return emit("Add", kept, emit("Mul", emit("Sub", below, above), emit.scalar(bias))) if bias else kept


def _abs(emit: Emitter, x: ir.Value, _node: ir.Node) -> Optional[ir.Value]:
    return None if emit.opset >= 9 else emit.absolute(x)


def _clip(emit: Emitter, x: ir.Value, node: ir.Node) -> Optional[ir.Value]:
    if emit.opset >= 12:
        return None
    limits: list[Optional[float]] = [node.attributes.get_float(name, None) for name in ("min", "max")]
    for index in (1, 2):
        value = optional_input(node, index)
        if value is not None:
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is None:
                raise emit.refusal("computes its limits", "convert the model to opset 13, or make them constants")
            limits[index - 1] = float(np.asarray(tensor.numpy()).item())
    return emit.clip(x, *limits)


_FUNCTIONS: Mapping[str, Callable[[Emitter, ir.Value, ir.Node], Optional[ir.Value]]] = {
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "ThresholdedRelu": _thresholded_relu,
    "Shrink": _shrink,
    "Abs": _abs,
    "Clip": _clip,
}
