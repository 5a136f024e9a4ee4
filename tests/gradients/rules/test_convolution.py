"""Conv, ConvTranspose and pooling, over all attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.gradients.checking import check_gradients

RNG = np.random.default_rng(8)


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


CONVOLUTIONS = [
    ({}, (2, 3, 5, 6), (4, 3, 3, 2)),
    ({"pads": [1, 1, 1, 1]}, (2, 3, 4, 5), (2, 3, 3, 3)),
    ({"pads": [1, 1, 1, 1]}, (2, 2, 4, 5), (5, 2, 3, 3)),
    ({"pads": [0, 1, 2, 0]}, (2, 3, 4, 5), (2, 3, 3, 3)),
    ({"pads": [3, 0, 0, 3]}, (1, 3, 4, 5), (2, 3, 3, 3)),
    ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, (2, 3, 5, 6), (4, 3, 3, 3)),
    ({"strides": [2, 3]}, (2, 3, 6, 8), (2, 3, 2, 2)),
    ({"strides": [3, 1]}, (1, 2, 7, 4), (2, 2, 1, 2)),
    ({"dilations": [2, 1], "pads": [2, 1, 2, 1]}, (2, 3, 5, 4), (2, 3, 3, 3)),
    ({"dilations": [2, 2], "strides": [2, 1]}, (1, 2, 8, 7), (3, 2, 3, 2)),
    ({"group": 2, "pads": [1, 1, 1, 1]}, (2, 4, 4, 5), (6, 2, 3, 3)),
    ({"group": 2, "strides": [2, 2]}, (2, 4, 5, 5), (2, 2, 3, 3)),
    ({"group": 3, "pads": [1, 0, 1, 0]}, (2, 3, 4, 5), (3, 1, 3, 3)),
    ({"group": 3, "strides": [2, 1]}, (2, 3, 5, 5), (6, 1, 2, 3)),
    ({}, (2, 3, 4, 5), (2, 3, 1, 1)),
    ({"strides": [2, 2]}, (2, 3, 4, 5), (2, 3, 1, 1)),
    ({"pads": [1, 1]}, (2, 3, 6), (2, 3, 3)),
    ({"strides": [2], "dilations": [2]}, (2, 3, 9), (4, 3, 3)),
    ({"pads": [1, 1, 0, 1, 0, 1]}, (1, 2, 3, 4, 3), (3, 2, 2, 3, 2)),
    ({"auto_pad": "VALID"}, (1, 2, 5, 4), (3, 2, 3, 3)),
    # More channels: products of several shifts of the side that has fewer.
    ({"pads": [1, 1, 1, 1]}, (2, 9, 4, 5), (8, 9, 3, 3)),
    ({"pads": [0, 1, 2, 0]}, (2, 8, 4, 5), (9, 8, 3, 3)),
    ({"dilations": [2, 2], "pads": [1, 0, 2, 1]}, (1, 18, 5, 4), (20, 18, 3, 2)),
    ({"pads": [2, 0, 1, 0]}, (1, 8, 25, 2), (9, 8, 25, 1)),
    ({"pads": [1, 1, 0, 1, 0, 1]}, (1, 9, 3, 4, 3), (8, 9, 2, 3, 2)),
    ({"pads": [2, 1]}, (2, 23, 6), (24, 23, 3)),
    # Elements of the kernel that see nothing but what is padded.
    ({"pads": [1, 1, 1, 1]}, (2, 9, 1, 1), (8, 9, 3, 3)),
    ({"group": 2, "pads": [1, 1, 1, 1]}, (2, 4, 1, 1), (6, 2, 3, 3)),
    ({"group": 3, "pads": [0, 2], "dilations": [2]}, (2, 12, 2), (15, 4, 2)),
]


@pytest.mark.parametrize(("attributes", "x", "w"), CONVOLUTIONS, ids=str)
def test_gradient_of_conv_by_input_filters_and_bias(
    attributes: dict[str, Any], x: tuple[int, ...], w: tuple[int, ...]
) -> None:
    feeds = {"x": _array(*x), "w": _array(*w), "b": _array(w[0])}
    check_gradients([helper.make_node("Conv", list(feeds), ["y"], **attributes)], feeds, held=("w", "b"))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 3]], ids=str)
def test_gradient_of_conv_with_pads_that_keep_the_size(auto_pad: str, strides: list[int]) -> None:
    feeds = {"x": _array(2, 3, 5, 7), "w": _array(2, 3, 3, 2)}
    kinds = ("static", "open", "distinct") if strides == [1, 1] else ("static",)
    node = helper.make_node("Conv", list(feeds), ["y"], auto_pad=auto_pad, strides=strides)
    check_gradients([node], feeds, held=("w",), kinds=kinds)


def test_gradient_of_conv_with_constant_filters_by_its_input() -> None:
    for group, shape in ((1, (4, 4, 3, 3)), (2, (6, 2, 3, 3))):
        node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 0, 1, 1], group=group)
        check_gradients([node], {"x": _array(2, 4, 4, 5)}, {"w": _array(*shape)})


TRANSPOSED = [
    ({}, (2, 3, 3, 4), (3, 4, 3, 2)),
    ({"strides": [2, 2]}, (2, 3, 3, 4), (3, 2, 2, 2)),
    ({"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, (2, 3, 3, 4), (3, 2, 3, 3)),
    ({"strides": [2, 1], "dilations": [1, 2], "pads": [0, 1, 1, 0]}, (1, 3, 3, 4), (3, 2, 3, 2)),
    ({"group": 2, "strides": [2, 2]}, (2, 4, 3, 3), (4, 3, 2, 2)),
    ({"group": 3, "pads": [1, 1, 1, 1]}, (2, 3, 4, 4), (3, 1, 3, 3)),
    ({"strides": [2]}, (2, 3, 5), (3, 2, 4)),
]


@pytest.mark.parametrize(("attributes", "x", "w"), TRANSPOSED, ids=str)
def test_gradient_of_transposed_conv(attributes: dict[str, Any], x: tuple[int, ...], w: tuple[int, ...]) -> None:
    feeds = {"x": _array(*x), "w": _array(*w), "b": _array(w[1] * attributes.get("group", 1))}
    check_gradients([helper.make_node("ConvTranspose", list(feeds), ["y"], **attributes)], feeds, held=("w", "b"))


MAX_POOLS = [
    ({"kernel_shape": [2, 2], "strides": [2, 2]}, (2, 3, 4, 6)),
    ({"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 1]}, (2, 3, 4, 5)),
    ({"kernel_shape": [2, 2], "dilations": [2, 1]}, (1, 2, 5, 4)),
    ({"kernel_shape": [3], "strides": [2]}, (2, 3, 8)),
    ({"kernel_shape": [2, 2, 2], "strides": [2, 1, 2]}, (1, 2, 4, 3, 4)),
]


@pytest.mark.parametrize(("attributes", "shape"), MAX_POOLS, ids=str)
def test_gradient_of_max_pool_goes_to_the_largest(attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    check_gradients([helper.make_node("MaxPool", ["x"], ["y"], **attributes)], {"x": _array(*shape)})


AVERAGE_POOLS = [
    ({"kernel_shape": [2, 2], "strides": [2, 2]}, (2, 3, 4, 7)),
    ({"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 1]}, (2, 3, 4, 5)),
    ({"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, (1, 2, 4, 5)),
    ({"kernel_shape": [3], "strides": [2]}, (2, 3, 8)),
    ({"kernel_shape": [2, 2, 2], "strides": [2, 2, 1]}, (1, 2, 4, 3, 4)),
]


@pytest.mark.parametrize(("attributes", "shape"), AVERAGE_POOLS, ids=str)
def test_gradient_of_average_pool_is_shared(attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    check_gradients([helper.make_node("AveragePool", ["x"], ["y"], **attributes)], {"x": _array(*shape)})


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2)], ids=str)
def test_gradient_of_global_pooling(op_type: str, shape: tuple[int, ...]) -> None:
    check_gradients([helper.make_node(op_type, ["x"], ["y"])], {"x": _array(*shape)})


def test_equal_maxima_share_the_gradient_of_global_max_pool() -> None:
    from tests.gradients.checking import gradient_model, model_of, run

    x = np.array([[[3, 1, 3, 3]]], np.float32)
    model = model_of([helper.make_node("GlobalMaxPool", ["x"], ["y"])], {"x": x})
    (_, slope) = run(gradient_model(model, ["x"], [np.ones((1, 1, 1), np.float32)]), {"x": x})
    np.testing.assert_allclose(slope, [[[1 / 3, 0, 1 / 3, 1 / 3]]], rtol=1e-6)
