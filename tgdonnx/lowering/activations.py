"""Activation functions of one input, of which the runtime differentiates few.

With the mask p of the positive elements, 0 where x = 0, the two branches of a function are those of p x and n = x - p x:

    Elu       p x + alpha (exp(n) - 1)                  Selu  gamma times that
    Celu      p x + alpha (exp(n / alpha) - 1)
    Softplus  (x + |x|) / 2 + log(1 + e), e = exp(-|x|)   = log(1 + exp(x)), without overflow at either end
    Mish      x tanh(softplus(x))
    Softsign  x / (1 + |x|)
    Gelu      x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2     where `approximate` is tanh

so that the derivative at x = 0 is the one of the definition. The runtime has a gradient for Gelu, but takes that of the
exact function for the approximate one too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Optional, final

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerActivations(Lowering):
    """Replaces the smooth activation functions that the runtime cannot differentiate."""

    op_types: ClassVar = frozenset(["Elu", "Selu", "Celu", "Softplus", "Mish", "Softsign", "Gelu"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the function in operators that have a gradient."""
        if node.op_type == "Gelu" and node.attributes.get_string("approximate", "none") != "tanh":
            return None
        return _FUNCTIONS[node.op_type](emit, first_input(node), node)


def softplus(emit: Emitter, x: ir.Value) -> ir.Value:
    """Writes log(1 + exp(x)), accurate for any x."""
    size, one = emit("Abs", x), emit.scalar(1)
    half = emit("Mul", emit("Add", x, size), emit.scalar(0.5))
    small = emit("Exp", emit("Neg", size))
    total = emit("Add", small, one)
    lost = emit("Sub", small, emit("Sub", total, one))  # by rounding; it has no gradient
    return emit("Add", half, emit("Add", emit("Log", total), emit("Div", lost, total)))


def _exponential(emit: Emitter, x: ir.Value, alpha: float, scale: float) -> ir.Value:
    """Writes x for positive x, and alpha (exp(x / scale) - 1) for others."""
    positive = emit("Mul", x, emit.mask("Greater", x, emit.scalar(0)))
    negative = emit("Sub", x, positive)
    if scale != 1:
        negative = emit("Div", negative, emit.scalar(scale))
    branch = emit("Sub", emit("Exp", negative), emit.scalar(1))
    if alpha != 1:
        branch = emit("Mul", branch, emit.scalar(alpha))
    return emit("Add", positive, branch)


def _elu(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    return _exponential(emit, x, node.attributes.get_float("alpha", 1.0), 1)


def _selu(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = node.attributes.get_float("alpha", 1.67326319217681884765625)
    gamma = node.attributes.get_float("gamma", 1.05070102214813232421875)
    return emit("Mul", _exponential(emit, x, alpha, 1), emit.scalar(gamma))


def _celu(emit: Emitter, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = node.attributes.get_float("alpha", 1.0)
    return _exponential(emit, x, alpha, alpha)


def _softplus(emit: Emitter, x: ir.Value, _node: ir.Node) -> ir.Value:
    return softplus(emit, x)


def _mish(emit: Emitter, x: ir.Value, _node: ir.Node) -> ir.Value:
    return emit("Mul", x, emit("Tanh", softplus(emit, x)))


def _softsign(emit: Emitter, x: ir.Value, _node: ir.Node) -> ir.Value:
    return emit("Div", x, emit("Add", emit("Abs", x), emit.scalar(1)))


def _gelu_tanh(emit: Emitter, x: ir.Value, _node: ir.Node) -> ir.Value:
    cube = emit("Mul", emit.square(x), x)
    inner = emit("Add", x, emit("Mul", cube, emit.scalar(0.044715)))
    gate = emit("Add", emit("Tanh", emit("Mul", inner, emit.scalar(np.sqrt(2 / np.pi)))), emit.scalar(1))
    return emit("Mul", emit("Mul", x, emit.scalar(0.5)), gate)


_FUNCTIONS: Mapping[str, Callable[[Emitter, ir.Value, ir.Node], ir.Value]] = {
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "Softplus": _softplus,
    "Mish": _mish,
    "Softsign": _softsign,
    "Gelu": _gelu_tanh,
}
