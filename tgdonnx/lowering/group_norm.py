"""GroupNormalization as operator sets before 21 had it: scale and bias are one for each group.

ONNX withdrew it, and no runtime runs it. It is an InstanceNormalization of the groups, each taken for one channel.
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerGroupNormalization(Lowering):
    """Replaces every GroupNormalization of the main graph, in operator sets before 21."""

    op_types: ClassVar = frozenset(["GroupNormalization"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the norm of the groups."""
        if emit.opset >= 21:
            return None
        x, scale, bias = first_input(node), required_input(node, 1), required_input(node, 2)
        groups = node.attributes["num_groups"].as_int()
        size = scale.shape[0] if scale.shape is not None and len(scale.shape) == 1 else None
        if not isinstance(size, int):
            raise emit.refusal("has a scale of unknown size", "make its scale a constant")
        if size != groups:
            raise emit.refusal(
                f"has {groups} groups but {size} scales, where operator set {emit.opset} has one scale per group",
                "convert the model to opset 21, which has one scale per channel",
            )
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        grouped = emit.reshape(x, [0, groups, -1])
        normal = emit("InstanceNormalization", grouped, scale, bias, epsilon=epsilon)
        return emit("Reshape", normal, emit("Shape", x))
