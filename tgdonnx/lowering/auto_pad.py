"""Conv with auto_pad SAME_UPPER or SAME_LOWER, with its pads written out, since those of its gradient follow from them.

To n elements with stride s and a window that reaches over r, SAME adds

    total = max((ceil(n / s) - 1) s + r - n, 0)          half before, half behind; the odd one behind (UPPER) or before (LOWER)

which is r - 1 for s = 1. For other strides, where n is not known before the model runs, it is computed in the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering

_SAME = ("SAME_UPPER", "SAME_LOWER")


@final
class LowerAutoPad(Lowering):
    """Gives every Conv its pads; the node stays."""

    op_types: ClassVar = frozenset(["Conv"])

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for emit in self.candidates(model):
            if emit.node.attributes.get_string("auto_pad", "NOTSET") in _SAME:
                self.rewrite(emit, emit.node)
                modified = True
        return ir.passes.PassResult(model, modified=modified)

    def rewrite(self, emit: Emitter, node: ir.Node) -> None:
        """Sets the pads of the node, or puts a Pad in front of it."""
        weight = required_input(node, 1).shape
        kernel = [*(node.attributes.get_ints("kernel_shape") or (weight[2:] if weight is not None else ()))]
        sizes = [size for size in kernel if isinstance(size, int)]
        if not sizes or len(sizes) < len(kernel):
            raise emit.refusal("has a kernel of unknown size", "make its weight a constant")
        x = first_input(node)
        pads = same_pads(emit, x, node, sizes)
        del node.attributes["auto_pad"]
        if isinstance(pads, list):
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)
        else:
            node.attributes.pop("pads", None)
            node.replace_input_with(0, emit("Pad", x, pads))


def same_pads(emit: Emitter, x: ir.Value, node: ir.Node, kernel: Sequence[int]) -> list[int] | ir.Value:
    """Returns the pads that auto_pad stands for: those of the spatial axes, or, computed in the graph, of all axes.

    Raises:
        UntrainableError: they are negative in ONNX Runtime, or would have to be computed in too old an operator set.
    """
    axes, attributes = len(kernel), node.attributes
    strides = list(attributes.get_ints("strides") or [1] * axes)
    dilations = list(attributes.get_ints("dilations") or [1] * axes)
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations)]
    upper = attributes.get_string("auto_pad") == "SAME_UPPER"
    sizes = list(x.shape[2:]) if x.shape is not None else [None] * axes
    totals = []
    for size, stride, length in zip(sizes, strides, reach):
        # Of the sizes that the next branch leaves open, a multiple of the stride needs least.
        least = (-(-size // stride) - 1) * stride + length - size if isinstance(size, int) else length - stride
        if least < -1:
            raise emit.refusal("steps over more than its window, so that auto_pad would crop", "give it explicit pads")
        if isinstance(size, int) or stride == 1:
            totals.append(max(least, 0))
    if len(totals) == axes:
        halves = [(total // 2, total - total // 2) for total in totals]
        return [pair[not upper] for pair in halves] + [pair[upper] for pair in halves]
    return _computed_pads(emit, x, strides, reach, upper=upper)


def _computed_pads(emit: Emitter, x: ir.Value, strides: list[int], reach: list[int], *, upper: bool) -> ir.Value:
    axes = len(strides)
    stride, two = emit.ints(*strides), emit.ints(2)
    size = emit("Gather", emit("Shape", x), emit.ints(*range(2, 2 + axes)))
    outputs = emit("Div", emit("Add", size, emit.constant(np.array(strides) - 1)), stride)
    covered = emit("Add", emit("Mul", outputs, stride), emit.constant(np.array(reach) - np.array(strides)))
    missing = emit("Sub", covered, size)
    total = emit("Div", emit("Add", missing, emit("Abs", missing)), two)
    small = emit("Div", total, two)
    large = emit("Sub", total, small)
    begin, end = (small, large) if upper else (large, small)
    return emit("Concat", emit.ints(0, 0), begin, emit.ints(0, 0), end, axis=0)
