"""LayerNormalization: the runtime has its gradient, but only for nodes that also give mean and deviation, and have a bias.

So the node stays, with its scale and bias, gets the outputs that it lacks, and a bias of zeros if it has none.
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.lowering.emitting import Emitter, Lowering, first_input, optional_input, required_input, take_over
from tgdonnx.lowering.rewriting import PREFIX


@final
class LowerLayerNormalization(Lowering):
    """Completes every LayerNormalization that lacks what its gradient needs."""

    op_types: ClassVar = frozenset(["LayerNormalization"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the node again, with three inputs and three outputs."""
        scale, bias = required_input(node, 1), optional_input(node, 2)
        if bias is not None and len(node.outputs) == 3 and all(value.name for value in node.outputs):
            return None
        if node.attributes.get_int("stash_type", 1) != ir.DataType.FLOAT.value:
            raise emit.refusal("computes in another type than float32", "set its attribute stash_type to 1")
        if bias is None:
            bias = emit("Mul", scale, emit.scalar(0))
        complete = ir.node(
            "LayerNormalization", [first_input(node), scale, bias], node.attributes, num_outputs=3, name=node.name
        )
        name = f"{PREFIX}{node.outputs[0].name}"
        for value, word in zip(complete.outputs, ("y", "mean", "inverse_std")):
            value.name = f"{name}.{word}"
        assert isinstance(node.graph, ir.Graph)
        node.graph.insert_before(node, complete)
        for old, new in list(zip(node.outputs, complete.outputs))[1:]:
            take_over(old, new)
        return complete.outputs[0]
