"""Dropout in inference form is the identity, and is taken out: onnxruntime-training would switch it on in a training graph."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from tgdonnx.graphs.builder import Builder, replace
from tgdonnx.graphs.nodes import refusal
from tgdonnx.graphs.operators import is_standard


class LowerDropout(ir.passes.InPlacePass):
    """Replaces every Dropout of the main graph by Identity; subgraphs are left alone."""

    op_types: ClassVar = frozenset(["Dropout"])

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        nodes = [node for node in model.graph if is_standard(node, self.op_types)]
        for node in nodes:
            if len(node.inputs) > 2 and node.inputs[2] is not None:
                mode = ir.convenience.get_const_tensor(node.inputs[2])
                if mode is None or mode.numpy().any():
                    raise refusal(node, "is in training form, so its output is random", "export for inference")
            if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
                raise refusal(node, "gives a mask that is used", "export the model for inference, without it")
            replace(node, Builder.before(node)("Identity", node.inputs[0]))
        return ir.passes.PassResult(model, modified=bool(nodes))
