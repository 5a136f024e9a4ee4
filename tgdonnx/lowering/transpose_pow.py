"""Operators that the runtime differentiates, but only in one spelling.

Transpose   with its attribute perm: without it the gradient builder looks it up in vain
Pow         with an exponent of the type of x; and x + 0 in place of an x that the exponent broadcasts, whose gradient
            would be too large. Through an exponent it lets no gradient pass: where filters make it, and the base is constant
            and positive, exp(exponent log(base)) stands for it
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.nodes import first_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerTransposePow(Lowering):
    """Replaces Transpose and Pow by the same operator, spelled out."""

    op_types: ClassVar = frozenset(["Transpose", "Pow"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the node again."""
        if node.op_type == "Transpose":
            return _transpose(emit, node)
        return _exponential(emit, node) if self.passes_gradient(required_input(node, 1)) else _pow(emit, node)


def _transpose(emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
    if "perm" in node.attributes:
        return None
    x = first_input(node)
    return emit("Transpose", x, perm=list(range(emit.rank(x)))[::-1])


def _exponential(emit: Emitter, node: ir.Node) -> ir.Value:
    base = known_array(first_input(node))
    if base is None or not (base > 0).all():
        raise emit.refusal(
            "raises what is not constant and positive to a power that filters compute, through which no gradient passes",
            "retrain filters behind it only, for example with `last`",
        )
    logarithm = np.log(base.astype(np.float64)).astype(np.float32)
    return emit("Exp", emit("Mul", required_input(node, 1), emit.constant(logarithm)))


def _pow(emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
    x, exponent = first_input(node), required_input(node, 1)
    of_x = exponent.dtype in (ir.DataType.FLOAT, None)
    known = exponent.shape is not None and all(isinstance(size, int) for size in exponent.shape)
    single = known and exponent.shape is not None and all(size == 1 for size in exponent.shape)
    short = exponent.shape is not None and x.shape is not None and len(exponent.shape) <= len(x.shape)
    if of_x and single and short:
        return None
    if not of_x:
        exponent = emit.cast(exponent, x)
    if not (single and short):
        x = emit("Add", x, emit.mask("Less", exponent, exponent))
    return emit("Pow", x, exponent)
