"""LayerNormalization: the runtime has its gradient, but only for nodes that have a bias.

    y = scale * (x - mean) / sqrt(var + epsilon) + bias, with statistics over the axes from one on

So the node stays, with its scale and bias, and gets a bias of zeros if it has none. Through its other outputs, mean and
1 / sqrt(var + epsilon), the runtime passes no gradient: where they are read, the node is written as arithmetic.

The type of the statistics (stash_type) is float32, as of all that trains, in models of other precisions; in a model of float32
that asks for another one, results would differ.
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.graphs.builder import replace_value
from tgdonnx.graphs.nodes import first_input, optional_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerLayerNormalization(Lowering):
    """Completes every LayerNormalization that lacks a bias, and takes those apart whose statistics are read."""

    op_types: ClassVar = frozenset(["LayerNormalization"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the node again with three inputs, or as arithmetic."""
        x, scale, bias = first_input(node), required_input(node, 1), optional_input(node, 2)
        if node.attributes.get_int("stash_type", 1) != ir.DataType.FLOAT.value:
            raise emit.refusal("computes in another type than float32", "set its attribute stash_type to 1")
        if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
            return _arithmetic(emit, node, x, scale, bias)
        if bias is not None:
            return None
        attributes = {
            "axis": node.attributes.get_int("axis", -1),
            "epsilon": node.attributes.get_float("epsilon", 1e-5),
        }
        return emit("LayerNormalization", x, scale, emit("Mul", scale, emit.scalar(0)), **attributes)


def _arithmetic(emit: Emitter, node: ir.Node, x: ir.Value, scale: ir.Value, bias: Optional[ir.Value]) -> ir.Value:
    rank, axis = emit.rank(x), node.attributes.get_int("axis", -1)
    axes = list(range(axis % rank, rank))
    mean = emit.reduce("ReduceMean", x, axes)
    centred = emit("Sub", x, mean)
    # No Pow, as in the other norms: ONNX Runtime would fuse it again.
    variance = emit.reduce("ReduceMean", emit("Mul", centred, centred), axes)
    deviation = emit("Sqrt", emit("Add", variance, emit.scalar(node.attributes.get_float("epsilon", 1e-5))))
    for old, new in zip(node.outputs[1:], (mean, emit("Reciprocal", deviation))):
        replace_value(old, new)
    y = emit("Mul", emit("Div", centred, deviation), scale)
    return y if bias is None else emit("Add", y, bias)
