"""Reductions for which the runtime has no gradient, or not in every form.

    max        sum of p x, p = [x is the largest] / (number of the largest): ties share the gradient alike
    min        -max(-x)
    L1         sum |x|
    L2         sqrt(sum x^2); where the sum is 0 the gradient is 0, not infinite
    SumSquare  sum x^2
    LogSum     log(sum x)
    LogSumExp  the runtime's own, with its dimensions kept and dropped afterwards: otherwise it cannot always
               build the gradient

A reduction whose axes are empty and whose attribute `noop_with_empty_axes` is set is, in the runtime, the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.graphs.builder import Axes
from tgdonnx.graphs.nodes import first_input, optional_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerReductions(Lowering):
    """Replaces the reductions that the runtime cannot differentiate."""

    op_types: ClassVar = frozenset(
        ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceSumSquare"]
    )

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the reduction as sums and arithmetic."""
        x, keepdims = first_input(node), bool(node.attributes.get_int("keepdims", 1))
        axes: Axes = node.attributes.get_ints("axes")
        given = optional_input(node, 1)
        if given is not None:
            tensor = ir.convenience.get_const_tensor(given)
            axes = given if tensor is None else [int(axis) for axis in tensor.numpy().reshape(-1)]
        if not axes and node.attributes.get_int("noop_with_empty_axes", 0) != 0:
            return x
        return _REDUCTIONS[node.op_type](emit, x, axes, keepdims)


def maximum(emit: Emitter, x: ir.Value, axes: Axes, keepdims: bool) -> ir.Value:
    """Writes the maximum over ``axes``."""
    largest = emit.complement(emit.mask("Less", x, emit.reduce("ReduceMax", x, axes)))
    share = emit("Div", largest, emit.reduce("ReduceSum", largest, axes))
    return emit.reduce("ReduceSum", emit("Mul", x, share), axes, keepdims=keepdims)


def euclidean(emit: Emitter, x: ir.Value, axes: Axes, keepdims: bool) -> ir.Value:
    """Writes the root of the sum of squares over ``axes``."""
    total = emit.reduce("ReduceSum", emit.square(x), axes)
    zero = emit.complement(emit.mask("Greater", total, emit.scalar(0)))
    root = emit("Sub", emit("Sqrt", emit("Add", total, zero)), zero)
    # Only now, because the runtime gives the gradient of Sqrt at least one dimension.
    return root if keepdims else _drop(emit, root, axes)


def absolute(emit: Emitter, x: ir.Value, axes: Axes, keepdims: bool) -> ir.Value:
    """Writes the sum of absolute values over ``axes``."""
    return emit.reduce("ReduceSum", emit("Abs", x), axes, keepdims=keepdims)


def _minimum(emit: Emitter, x: ir.Value, axes: Axes, keepdims: bool) -> ir.Value:
    return emit("Neg", maximum(emit, emit("Neg", x), axes, keepdims))


def _sum_square(emit: Emitter, x: ir.Value, axes: Axes, keepdims: bool) -> ir.Value:
    return emit.reduce("ReduceSum", emit.square(x), axes, keepdims=keepdims)


def _log_sum(emit: Emitter, x: ir.Value, axes: Axes, keepdims: bool) -> ir.Value:
    return emit("Log", emit.reduce("ReduceSum", x, axes, keepdims=keepdims))


def _log_sum_exp(emit: Emitter, x: ir.Value, axes: Axes, keepdims: bool) -> Optional[ir.Value]:
    return None if keepdims else _drop(emit, emit.reduce("ReduceLogSumExp", x, axes), axes)


def _drop(emit: Emitter, x: ir.Value, axes: Axes) -> ir.Value:
    """Writes ``x`` without ``axes``, all of size 1; unlike Squeeze, a sum takes them in any order, and also as a value."""
    return emit.reduce("ReduceSum", x, axes, keepdims=False)


_REDUCTIONS: Mapping[str, Callable[[Emitter, ir.Value, Axes, bool], Optional[ir.Value]]] = {
    "ReduceL1": absolute,
    "ReduceL2": euclidean,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": maximum,
    "ReduceMin": _minimum,
    "ReduceSumSquare": _sum_square,
}
