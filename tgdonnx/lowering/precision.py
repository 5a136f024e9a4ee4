"""Half and double precision graphs, as float32.

We train in float32. A model in float16, bfloat16 or float64 is computed in float32 instead: every constant, input
and cast of those types becomes float32. What is trained is rounded to the vendor's type when it is written back.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.builder import Builder, replace
from tgdonnx.graphs.operators import DTYPE_ATTRIBUTES, is_standard

_HALF = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
OTHER_PRECISIONS = _HALF | {ir.DataType.DOUBLE}


class ComputeInFloat32(ir.passes.InPlacePass):
    """Turns float16 and bfloat16, and if asked for float64, into float32, in the main graph and its subgraphs."""

    def __init__(self, *, double: bool) -> None:
        """Decides about float64.

        Args:
            double: whether float64 is turned as well. A float32 model may compute a few shapes in it, which must stay.
        """
        super().__init__()
        self._turned = OTHER_PRECISIONS if double else _HALF

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for graph in model.graphs():
            for value in [*graph.inputs, *graph.initializers.values()]:
                modified |= self._turn_value(value)
            for node in graph:
                modified |= self._turn_attributes(node)
                for value in node.outputs:
                    modified |= self._turn_value(value)
        return ir.passes.PassResult(model, modified)

    def _turn_value(self, value: ir.Value) -> bool:
        if value.dtype not in self._turned:
            return False
        if value.const_value is not None:
            value.const_value = _float32(value.const_value)
        value.dtype = ir.DataType.FLOAT
        return True

    def _is_turned(self, node: ir.Node) -> bool:
        """Whether a node computes in a type that is turned; of a float32 node with statistics in another type it stays."""
        return bool(node.outputs) and node.outputs[0].dtype in self._turned

    def _turn_attributes(self, node: ir.Node) -> bool:
        modified = False
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in self._turned:
                node.attributes[name] = ir.AttrTensor(name, _float32(attribute.as_tensor()))
                modified = True
            elif (
                attribute.type == ir.AttributeType.INT
                and ((node.op_type, name) in DTYPE_ATTRIBUTES or (name == "stash_type" and self._is_turned(node)))
                and attribute.as_int() in self._turned
            ):
                node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT.value)
                modified = True
        return modified


def _float32(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


class RemoveIdleCasts(ir.passes.InPlacePass):
    """Takes out casts from float32 to float32, at which the runtime's optimizer stumbles."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for node in list(model.graph):
            if not is_standard(node, "Cast") or node.inputs[0] is None:
                continue
            if node.attributes["to"].as_int() == node.inputs[0].dtype == ir.DataType.FLOAT:
                replace(node, Builder.before(node)("Identity", node.inputs[0]))
                modified = True
        return ir.passes.PassResult(model, modified)
