"""Whole networks: our gradients against those of onnxruntime-training's own gradient builder, where that is right.

It is wrong, fails or ends the process for pooling, norms, groups other than in two dimensions, values that several Concats
read, branches and more, so the networks are plain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx_ir.passes.common import ShapeInferencePass

from tests.gradients.checking import run
from tests.support import models
from tests.support.models import Array
from tests.support.training_models import dncnn_without_batch_norm, text_model
from tgdonnx.gradients import differentiate
from tgdonnx.lowering.opset_upgrade import UpgradeOpset
from tgdonnx.runtime import load_onnxruntime, session_options

pytestmark = pytest.mark.training
LOSS = "loss"


def classifier() -> onnx.ModelProto:
    return text_model(
        """g (float[N, 3, 9, 8] x) => (float[N, 4] y) {
            a = Conv<kernel_shape = [3, 3], strides = [2, 1], dilations = [1, 2]>(x, w1, b1)
            g = Gelu(a)
            p = ReduceMean(g, axes)
            f = Reshape(p, flat)
            m = Gemm<transB = 1, alpha = 0.5>(f, w2, b2)
            t = Tanh(m)
            k = MatMul(t, w3)
            l = LogSoftmax<axis = 1>(k)
            e = Sigmoid(k)
            y = Div(l, e)
        }""",
        opset=20,
        ir_version=9,
        **{"w1": (6, 3, 3, 3), "b1": (6,), "w2": (9, 24), "b2": (9,), "w3": (9, 4)},
        axes=np.array([2]),
        flat=np.array([0, 24]),
    )


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "chain": models.chain,
    "dncnn": dncnn_without_batch_norm,
    "classifier": classifier,
}


def with_loss(model: onnx.ModelProto, weights: Array) -> tuple[onnx.ModelProto, list[str]]:
    """The weighted sum of the output as ``loss``; the floating-point tensors are inputs, and named."""
    graph = ir.from_proto(model)
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(graph)
    UpgradeOpset()(graph)
    proto = ir.to_proto(graph)
    stored = [
        tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    ]
    read = {name for node in proto.graph.node for name in node.input}
    names = [tensor.name for tensor in stored if tensor.name in read]
    rest = [tensor for tensor in proto.graph.initializer if tensor.name not in names]
    proto.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in stored if t.name in names
    )
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([*rest, onnx.numpy_helper.from_array(weights, "weights")])
    proto.graph.node.append(helper.make_node("Mul", [proto.graph.output[0].name, "weights"], ["weighted"]))
    proto.graph.node.append(helper.make_node("ReduceSum", ["weighted"], [LOSS], keepdims=0))
    del proto.graph.output[:], proto.graph.value_info[:]
    proto.graph.output.append(helper.make_tensor_value_info(LOSS, onnx.TensorProto.FLOAT, []))
    return proto, names


def by_the_runtime(proto: onnx.ModelProto, names: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
    module, options = load_onnxruntime().capi._pybind_state, session_options()
    optimized = module.get_optimized_model(proto.SerializeToString(), set(names), options)
    builder = module.GradientGraphBuilder(optimized, {LOSS}, set(names), LOSS, options)
    builder.build()
    model = onnx.ModelProto.FromString(builder.get_model())
    outputs = {value.name: value for value in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(outputs[f"{name}_grad"] for name in names)
    return run(model, feeds)


def by_our_rules(proto: onnx.ModelProto, names: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
    model = ir.from_proto(proto)
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    inputs = {str(value.name): value for value in model.graph.inputs}
    gradients = differentiate(model, model.graph.outputs[0], [inputs[name] for name in names])
    model.graph.outputs[:] = gradients
    return run(ir.to_proto(model), feeds)


@pytest.mark.parametrize("name", NETWORKS)
def test_our_gradients_are_those_of_the_runtime(name: str) -> None:
    model = NETWORKS[name]()
    feeds = models.random_feeds(model)
    rng = np.random.default_rng(3)
    weights = rng.normal(size=run(model, feeds)[0].shape).astype(np.float32)
    proto, names = with_loss(model, weights)
    given = {
        **feeds,
        **{t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in names},
    }
    assert len(names) > 2
    for tensor, theirs, ours in zip(names, by_the_runtime(proto, names, given), by_our_rules(proto, names, given)):
        assert ours.shape == theirs.shape
        assert theirs.any(), tensor
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max(), tensor
