"""GroupNormalization of the form that ONNX withdrew: one scale and one bias for each group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.lowering.gradcheck import DYNAMIC, STATIC, check_gradients, lowered_by, one_node, run
from tests.support.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.group_norm import LowerGroupNormalization

RNG = np.random.default_rng(0)
FEEDS = {
    name: RNG.normal(size=shape).astype(np.float32) for name, shape in (("x", (2, 6, 3, 4)), ("s", (3,)), ("b", (3,)))
}


def normed(x: Array, scale: Array, bias: Array) -> Array:
    apart = x.reshape(len(x), len(scale), -1)
    deviation = np.sqrt(apart.var(axis=2, keepdims=True) + 0.01)
    y = (apart - apart.mean(axis=2, keepdims=True)) / deviation * scale[:, None] + bias[:, None]
    return y.reshape(x.shape)


@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
def test_it_gives_what_the_definition_says_with_the_right_gradient(dims: str) -> None:
    model = one_node(
        "GroupNormalization", FEEDS, opset=18, dims=dims, parameters=("s", "b"), num_groups=3, epsilon=0.01
    )
    lower = lowered_by(model, LowerGroupNormalization())
    expected = normed(*(array.astype(np.float64) for array in FEEDS.values()))
    np.testing.assert_allclose(run(lower, {"x": FEEDS["x"]}), expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    check_gradients(lower, FEEDS, normed)


def test_a_scale_for_each_channel_is_refused_with_a_remedy() -> None:
    feeds = {**FEEDS, "s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)}
    model = one_node("GroupNormalization", feeds, opset=18, parameters=("s", "b"), num_groups=3)
    with pytest.raises(UntrainableError, match=r"has 3 groups but 6 scales, .* convert the model to opset 21"):
        lowered_by(model, LowerGroupNormalization())


def test_that_of_operator_set_21_stays() -> None:
    feeds = {**FEEDS, "s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)}
    model = one_node("GroupNormalization", feeds, opset=21, parameters=("s", "b"), num_groups=3)
    assert [node.op_type for node in lowered_by(model, LowerGroupNormalization()).graph.node] == ["GroupNormalization"]


def test_filters_in_front_of_it_train(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[N, 3, H, W] x) => (float[N, 2, H, W] y)
        { a = Conv(x, w)\n n = GroupNormalization<num_groups = 2>(a, s, b)\n y = Conv(n, v) }"""
    model = onnx.parser.parse_model(text)
    for name, shape in (("w", (4, 3, 1, 1)), ("s", (2,)), ("b", (2,)), ("v", (2, 4, 1, 1))):
        model.graph.initializer.append(numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    tgdonnx.mask(tmp_path / "model.onnx", tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    x, target = (RNG.normal(size=(4, size, 5, 6)).astype(np.float32) for size in (3, 2))
    report = tgdonnx.train(tmp_path / "artifacts", {"x": x, "target": target}, tgdonnx.TrainOptions(steps=30, batch=4))
    assert report.loss[-1] < report.loss[0]
