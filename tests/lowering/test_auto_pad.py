"""Conv with auto_pad, given its pads."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lowering.gradcheck import DYNAMIC, STATIC, check_forward, check_gradients, lowered_by, one_node, run
from tests.support.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.auto_pad import LowerAutoPad


def convolved(x: Array, w: Array, strides: list[int], dilations: list[int], *, upper: bool, group: int) -> Array:
    """Convolution as TensorFlow defines it for SAME padding, written from the sum."""
    space, kernel = x.shape[2:], w.shape[2:]
    outputs = [-(-n // s) for n, s in zip(space, strides)]
    totals = [
        max((o - 1) * s + (k - 1) * d + 1 - n, 0) for o, s, k, d, n in zip(outputs, strides, kernel, dilations, space)
    ]
    widths = [(t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals]
    x = np.pad(x, [(0, 0), (0, 0), *widths])
    x = x.reshape(len(x), group, -1, *x.shape[2:])
    w = w.reshape(group, -1, *w.shape[1:])
    y = np.zeros((len(x), group, w.shape[1], *outputs))
    for offset in itertools.product(*map(range, kernel)):
        slices = [slice(i * d, i * d + (o - 1) * s + 1, s) for i, d, o, s in zip(offset, dilations, outputs, strides)]
        y += np.einsum("ngi...,gmi->ngm...", x[(..., *slices)], w[(..., *offset)])
    return y.reshape(len(x), -1, *outputs)


@settings(deadline=None, max_examples=80)
@given(st.data(), st.booleans(), st.sampled_from([STATIC, DYNAMIC]))
def test_pads_as_the_original_and_has_a_gradient(data: st.DataObject, upper: bool, dims: str) -> None:
    rank = data.draw(st.integers(1, 3))
    space = data.draw(st.lists(st.integers(3, 7 if rank < 3 else 4), min_size=rank, max_size=rank))
    kernel = data.draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    strides = [data.draw(st.integers(1, size + 1)) for size in kernel]
    dilations = [1 if stride > 1 else data.draw(st.integers(1, 2)) for stride in strides]
    opset = data.draw(st.integers(8 if strides == [1] * rank or dims == STATIC else 11, 21))
    group = data.draw(st.integers(1, 2))
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.normal(size=(data.draw(st.integers(1, 2)), 2 * group, *space)).astype(np.float32),
        "w": rng.normal(size=(group * data.draw(st.integers(1, 2)), 2, *kernel)).astype(np.float32),
    }
    attributes = {"strides": strides, "dilations": dilations, "group": group}
    if data.draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    auto_pad = "SAME_UPPER" if upper else "SAME_LOWER"
    model = one_node("Conv", feeds, opset=opset, dims=dims, parameters=["w"], auto_pad=auto_pad, **attributes)
    lower = lowered_by(model, LowerAutoPad())

    def formula(x: Array, w: Array) -> Array:
        return convolved(x, w, strides, dilations, upper=upper, group=group)

    if max(dilations) == 1:
        check_forward(model, lower, feeds)
    else:  # ONNX Runtime refuses to run the original
        expected = formula(*(array.astype(np.float64) for array in feeds.values()))
        assert np.abs(run(lower, feeds) - expected).max() <= 2e-6 * np.abs(expected).max()
    check_gradients(lower, feeds, formula)


def test_the_layer_stays_the_node_it_was() -> None:
    x = np.zeros((1, 2, 5, 5), np.float32)
    feeds = {"x": x, "w": x[:, :, :3, :3]}
    model = ir.from_proto(one_node("Conv", feeds, opset=13, auto_pad="SAME_UPPER", strides=[2, 2]))
    conv = model.graph[0]
    LowerAutoPad()(model)
    assert list(model.graph) == [conv]
    assert "auto_pad" not in conv.attributes
    assert conv.attributes["pads"].as_ints() == (1, 1, 1, 1)


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID"])
def test_others_are_left_alone(auto_pad: str) -> None:
    x = np.zeros((1, 2, 5, 5), np.float32)
    model = one_node("Conv", {"x": x, "w": x}, opset=13, auto_pad=auto_pad)
    assert not LowerAutoPad()(ir.from_proto(model)).modified


def test_refuses_what_a_runtime_would_crop() -> None:
    x = np.zeros((1, 2, 6), np.float32)
    model = one_node("Conv", {"x": x, "w": x[:, :, :1]}, opset=13, auto_pad="SAME_UPPER", strides=[3])
    with pytest.raises(UntrainableError, match=r"node 'node' \(Conv\) steps over more than its window"):
        LowerAutoPad()(ir.from_proto(model))


def test_computes_pads_that_depend_on_the_input_of_an_old_model() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 6)).astype(np.float32)
    feeds = {"x": x, "w": x[:, :, :3]}
    model = one_node("Conv", feeds, opset=10, dims=DYNAMIC, parameters=["w"], auto_pad="SAME_UPPER", strides=[2])
    check_forward(model, lowered_by(model, LowerAutoPad()), {"x": x})
