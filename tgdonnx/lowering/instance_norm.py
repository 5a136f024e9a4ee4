"""InstanceNormalization and GroupNormalization: statistics over one channel, or over a group of them, of one sample.

    y = scale * (x - mean) / sqrt(var + epsilon) + bias

x is viewed as (N, groups, elements of a group), so that neither the number of spatial axes nor their size need be
known; then as (N, channels, elements of a channel) for the affine map. In operator set 18 GroupNormalization has one
scale per group, from 21 on one per channel.
"""

from __future__ import annotations

from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerInstanceNormalization(Lowering):
    """Replaces InstanceNormalization and GroupNormalization."""

    op_types: ClassVar = frozenset(["InstanceNormalization", "GroupNormalization"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the normalisation as reductions and arithmetic."""
        x, scale, bias = first_input(node), required_input(node, 1), required_input(node, 2)
        size = scale.shape[0] if scale.shape is not None and len(scale.shape) == 1 else None
        if not isinstance(size, int):
            raise emit.refusal("has a scale of unknown size", "make its scale a constant")
        groups = node.attributes.get_int("num_groups", size)
        if node.op_type == "GroupNormalization" and emit.opset < 21 and size != groups:
            raise emit.refusal(
                f"has {groups} groups but {size} scales, where operator set {emit.opset} has one scale per group",
                "convert the model to opset 21, which has one scale per channel",
            )
        grouped = emit.reshape(x, [0, groups, -1])
        normal = standardised(emit, grouped, [2], node.attributes.get_float("epsilon", 1e-5))
        if groups != size:
            normal = emit.reshape(normal, [0, size, -1])
        affine = emit("Mul", normal, emit.unsqueeze(scale, [1]))
        affine = emit("Add", affine, emit.unsqueeze(bias, [1]))
        return emit("Reshape", affine, emit("Shape", x))


def standardised(emit: Emitter, x: ir.Value, axes: list[int], epsilon: float) -> ir.Value:
    """Writes (x - mean) / sqrt(var + epsilon), with statistics over ``axes``."""
    centred = emit("Sub", x, emit.reduce("ReduceMean", x, axes))
    # No Pow: ONNX Runtime would fuse it to an operator whose second output it gives the wrong shape, and fail.
    variance = emit.reduce("ReduceMean", emit("Mul", centred, centred), axes)
    return emit("Div", centred, emit("Sqrt", emit("Add", variance, emit.scalar(epsilon))))
