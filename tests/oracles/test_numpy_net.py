"""The reference is itself checked: forward against ONNX Runtime, backward against central differences."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from tests.oracles.numpy_net import NumpyNet, loss_gradient, loss_of
from tests.support import models
from tests.support.quantized_models import Kind, quantized
from tests.support.sessions import open_session
from tests.support.trainer import relative_error
from tests.support.training_models import text_model

POOLS = """g (float[N, 2, H, W] x) => (float[N, 3, h, w] y) {
    a = Conv<pads = [1, 0, 0, 1], strides = [2, 1], dilations = [1, 2]>(x, w, b)
    m = MaxPool<kernel_shape = [3, 2], pads = [1, 0, 0, 1]>(a)
    v = AveragePool<kernel_shape = [2, 3], pads = [0, 1, 1, 1], strides = [1, 2]>(m)
    i = AveragePool<kernel_shape = [2, 2], pads = [1, 0, 0, 1], count_include_pad = 1>(v)
    s = Softmax<axis = 1>(i)
    d = Dropout(s)
    y = Mul(d, c)
}"""


def sample(name: str) -> NumpyNet:
    if name == "pools":
        return NumpyNet(text_model(POOLS, w=(3, 2, 3, 2), b=(3,), c=(1, 3, 1, 1)))
    return NumpyNet(models.MODELS[name](0))


@pytest.mark.parametrize("name", ["chain", "dncnn", "residual", "dense", "grouped", "one_d", "three_d", "pools"])
def test_the_reference_gradient_is_the_slope_of_the_reference_loss(name: str) -> None:
    net = sample(name)
    rng = np.random.default_rng(5)
    x = {"x": rng.normal(size={"one_d": (2, 2, 13), "three_d": (2, 1, 6, 5, 7)}.get(name, (2, 2, 7, 6)))}
    if net.nodes[0].op_type == "Conv":
        group = {"grouped": 2}.get(name, 1)
        maps = net.tensors[net.nodes[0].input[1]].shape[1] * group
        x["x"] = rng.normal(size=(2, maps, *x["x"].shape[2:]))
    output = net.outputs[0]
    target = rng.normal(size=net.run(x)[output].shape)
    gradients = net.gradients(x, {output: loss_gradient("mse", net.run(x)[output], target)})
    moving = [name for name in net.tensors if name in gradients]
    assert len(moving) >= 3
    for tensor in [*moving, "x"]:
        direction = rng.normal(size=gradients[tensor].shape)
        losses = []
        for sign in (1, -1):
            moved = (x if tensor == "x" else net.tensors)[tensor] + sign * 1e-6 * direction
            values = net.run({"x": moved}) if tensor == "x" else net.run(x, {tensor: moved})
            losses.append(loss_of("mse", values[output], target))
        slope, size = (losses[0] - losses[1]) / 2e-6, np.linalg.norm(gradients[tensor]) * np.linalg.norm(direction)
        assert abs(slope - float((gradients[tensor] * direction).sum())) < 1e-6 * size, tensor


@pytest.mark.parametrize("name", ["chain", "dncnn", "residual", "dense", "grouped", "one_d", "three_d"])
def test_the_reference_computes_what_onnx_runtime_computes(name: str) -> None:
    model = models.MODELS[name](0)
    feeds = models.random_feeds(model)
    expected = open_session(model).run(None, feeds)[0]
    assert relative_error(expected, NumpyNet(model).run(feeds)[model.graph.output[0].name]) < 1e-6


def test_a_gate_cuts_what_flows_back_into_the_node_that_made_the_activation() -> None:
    net = NumpyNet(
        text_model(
            "g (float[N,2,W] x) => (float[N,1,W] y) { a = Conv(x, w)\n y = Conv(a, v) }", w=(3, 2, 1), v=(1, 3, 1)
        )
    )
    x = {"x": np.random.default_rng(0).normal(size=(2, 2, 5))}
    seeds = {"y": np.ones((2, 1, 5))}
    open_, shut = net.gradients(x, seeds), net.gradients(x, seeds, gates={"a": np.array([1.0, 0.0, 1.0])[:, None]})
    assert np.array_equal(shut["v"], open_["v"])
    assert np.array_equal(shut["w"][[0, 2]], open_["w"][[0, 2]])
    assert not shut["w"][1].any()
    assert not np.allclose(shut["x"], open_["x"])


@pytest.mark.parametrize("weights", [np.int8, np.uint8])
def test_the_reference_quantises_as_onnx_runtime_does(weights: type) -> None:
    model = quantized(Kind(weights=weights))
    feeds = {"x": np.random.default_rng(2).normal(size=(2, 2, 8, 8)).astype(np.float32)}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = open_session(model, options).run(None, feeds)
    assert relative_error(NumpyNet(model).run(feeds)["y"], expected) < 1e-6
