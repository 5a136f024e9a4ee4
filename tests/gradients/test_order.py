"""The order of what is written: ONNX Runtime computes of the inputs of a node the one first whose node comes last."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass, TopologicalSortPass

from tgdonnx.gradients import differentiate


def test_derivatives_are_written_before_the_way_back_so_that_they_are_computed_when_they_are_multiplied() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2,3] x, float[3,3] v, float[3,4] w) => (float loss) '
        "{ a = MatMul (x, v)  b = Relu (a)  c = MatMul (b, w)  d = Sigmoid (c)  loss = ReduceMean <keepdims=0> (d) }"
    )
    model = ir.from_proto(proto)
    ShapeInferencePass()(model)
    forward = set(model.graph)
    differentiate(model, model.graph.outputs[0], [model.graph.inputs[1]])
    written = [node for node in model.graph if node not in forward]
    masks = [place for place, node in enumerate(written) if node.op_type in ("Greater", "Cast", "Sub")]
    products = [place for place, node in enumerate(written) if node.op_type == "MatMul"]
    assert len(masks) == 3
    assert len(products) == 2
    assert max(masks) < min(products)
    assert not TopologicalSortPass()(model).modified
