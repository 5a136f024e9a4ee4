"""MaxPool and AveragePool whose gradients do not depend on sizes that the graph declares."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.lowering.gradcheck import DYNAMIC, STATIC, check_forward, check_gradients, gradients, lowered_by, one_node
from tests.support.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.pooling import LowerPooling

KINDS = ["MaxPool", "AveragePool", "counting pads"]


def windows(
    size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], *, auto_pad: str, ceil: bool
) -> list[list[int]]:
    """For each output the indices it is made of, as the definition in the ONNX standard has it."""
    reach = (kernel - 1) * dilation + 1
    if auto_pad.startswith("SAME"):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + reach - size, 0)
        begin = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    else:
        begin = pads[0]
        room = size + sum(pads) - reach
        outputs = (-(-room // stride) if ceil else room // stride) + 1
    starts = [index * stride - begin for index in range(outputs)]
    return [[i for i in range(start, start + reach, dilation) if 0 <= i < size] for start in starts]


def pooled(x: Array, kind: str, kernel: list[int], along: list[list[list[int]]]) -> Array:
    y = np.zeros((*x.shape[:2], *map(len, along)))
    for place in np.ndindex(*y.shape[2:]):
        part = x[np.ix_(range(len(x)), range(x.shape[1]), *(along[axis][i] for axis, i in enumerate(place)))]
        part = part.reshape(*x.shape[:2], -1)
        y[(..., *place)] = part.max(2) if kind == "MaxPool" else part.sum(2)
        if kind != "MaxPool":
            y[(..., *place)] /= np.prod(kernel) if kind == "counting pads" else part.shape[2]
    return y


@pytest.mark.training  # newer runtimes refuse SAME padding that would be negative, where strides are larger than kernels
@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(KINDS), st.sampled_from([STATIC, DYNAMIC]))
def test_pools_as_the_original_and_has_its_gradient(data: st.DataObject, kind: str, dims: str) -> None:
    op_type = "MaxPool" if kind == "MaxPool" else "AveragePool"
    rank = data.draw(st.integers(1, 3))
    space = data.draw(st.lists(st.integers(2, 4 if rank == 3 else 6), min_size=rank, max_size=rank))
    kernel = data.draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    strides = data.draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    opset = data.draw(st.integers(8, 21))
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if strides != [1] * rank or data.draw(st.booleans()):
        attributes["strides"] = strides
    auto_pad = data.draw(st.sampled_from(["", "", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    pads = [0] * (2 * rank)
    if auto_pad:
        attributes["auto_pad"] = auto_pad
    if auto_pad in ("", "NOTSET") and data.draw(st.booleans()):
        pads = [data.draw(st.integers(0, size - 1)) for size in kernel * 2]
        attributes["pads"] = pads
    ceil = opset >= 10 and auto_pad in ("", "NOTSET") and data.draw(st.booleans())
    if ceil:
        attributes["ceil_mode"] = 1
    if auto_pad.startswith("SAME") and op_type == "AveragePool" and dims == DYNAMIC and opset < 11:
        assume(strides == [1] * rank)
    if auto_pad.startswith("SAME"):
        assume(all(stride <= size + 1 for stride, size in zip(strides, kernel)))
    dilations = [1] * rank
    if opset >= (10 if kind == "MaxPool" else 19) and not auto_pad.startswith("SAME") and data.draw(st.booleans()):
        dilations = data.draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))
        attributes["dilations"] = dilations
    if kind == "counting pads":
        attributes["count_include_pad"] = 1
    along = [
        windows(size, k, s, d, (pads[axis], pads[rank + axis]), auto_pad=auto_pad, ceil=ceil)
        for axis, (size, k, s, d) in enumerate(zip(space, kernel, strides, dilations))
    ]
    assume(all(each and all(each) for each in along))  # a window of nothing but padding has no maximum and no mean
    x = np.random.default_rng(0).normal(size=(data.draw(st.integers(1, 2)), 2, *space)).astype(np.float32)
    model = one_node(op_type, {"x": x}, opset=opset, dims=dims, **attributes)
    lower = lowered_by(model, LowerPooling())
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: pooled(x, kind, kernel, along))


def test_gives_the_gradient_to_the_first_of_equal_maxima() -> None:
    x = np.zeros((1, 1, 4), np.float32)
    lower = lowered_by(one_node("MaxPool", {"x": x}, opset=12, kernel_shape=[2], strides=[2]), LowerPooling())
    assert gradients(lower, {"x": x}, np.array([[[3, 5]]], np.float32))["x"].tolist() == [[[3, 0, 5, 0]]]


def test_the_order_of_storage_that_the_indices_were_to_have_does_not_matter() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 5)).astype(np.float32)
    model = one_node("MaxPool", {"x": x}, opset=12, kernel_shape=[2, 2], storage_order=1)
    check_forward(model, lowered_by(model, LowerPooling()), {"x": x})


def test_refuses_indices_that_are_used() -> None:
    x = np.zeros((1, 2, 4), np.float32)
    model = one_node("MaxPool", {"x": x}, opset=12, kernel_shape=[2], outputs=["y", "indices"])
    model.graph.output.append(helper.make_tensor_value_info("indices", 7, None))
    with pytest.raises(UntrainableError, match=r"node 'node' \(MaxPool\) has a second output that is used"):
        LowerPooling()(ir.from_proto(model))


def test_refuses_to_average_an_unknown_number_of_channels() -> None:
    model = one_node("AveragePool", {"x": np.zeros((1, 2, 4), np.float32)}, opset=12, kernel_shape=[2])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "C"
    with pytest.raises(UntrainableError, match=r"node 'node' \(AveragePool\) has an unknown number of channels"):
        LowerPooling()(ir.from_proto(model))
