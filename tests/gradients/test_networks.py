"""Whole networks: all gradients at once, against finite differences of ONNX's reference in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import ShapeInferencePass

from tests.gradients import exact_operators
from tests.gradients.checking import _in_double, run
from tests.support import models
from tgdonnx.gradients import differentiate
from tgdonnx.lowering.opset_upgrade import UpgradeOpset
from tgdonnx.lowering.pad import LowerPad

infer = ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
NETWORKS = [
    models.chain,
    models.dncnn,
    models.residual,
    models.dense,
    models.grouped,
    models.one_d,
    models.three_d,
    models.gated,
    models.shared_weights,
    models.shared_through_identity,
]


def _with_loss(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the mean of its squared outputs as its one output, and ``target`` taken off before."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    output = proto.graph.output[0].name
    proto.graph.node.extend(
        [
            helper.make_node("Sub", [output, "target"], ["difference"]),
            helper.make_node("Mul", ["difference", "difference"], ["square"]),
            helper.make_node("ReduceMean", ["square"], ["the loss"], keepdims=0),
        ]
    )
    proto.graph.input.append(helper.make_tensor_value_info("target", onnx.TensorProto.FLOAT, None))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("the loss", onnx.TensorProto.FLOAT, []))
    return proto


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_gradients_of_a_network_are_its_slopes(network: Callable[[], onnx.ModelProto]) -> None:
    model = network()
    feeds = models.random_feeds(model)
    rng = np.random.default_rng(12)
    shape = run(model, feeds)[0].shape
    feeds["target"] = rng.normal(size=shape).astype(np.float32)
    proto = _with_loss(model)
    frozen = {name for node in proto.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]}
    graph = ir.from_proto(proto)
    infer(graph)
    if UpgradeOpset()(graph).modified:
        infer(graph)
    LowerPad()(graph)
    infer(graph)
    wanted = [
        value
        for name, value in graph.graph.initializers.items()
        if value.dtype == ir.DataType.FLOAT and name not in frozen and value.uses() and value.shape != []
    ]
    gradients = differentiate(graph, graph.graph.outputs[0], wanted)
    graph.graph.outputs.extend(gradients)
    found = dict(zip((str(v.name) for v in wanted), run(ir.to_proto(graph), feeds)[1:]))
    exact = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in feeds.items()}
    for name, gradient in found.items():
        array = numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == name)).astype(np.float64)
        direction = rng.normal(size=array.shape)
        slope = (
            _loss(proto, exact, name, array + 1e-5 * direction) - _loss(proto, exact, name, array - 1e-5 * direction)
        ) / 2e-5
        along = float((gradient.astype(np.float64) * direction).sum())
        assert abs(along - slope) <= 2e-5 * np.linalg.norm(gradient) * np.linalg.norm(direction) + 1e-8, name


def _loss(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], name: str, array: np.ndarray) -> float:
    moved = _in_double(proto)
    for tensor in moved.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return float(ReferenceEvaluator(moved, new_ops=exact_operators.ALL).run(None, feeds)[0])
