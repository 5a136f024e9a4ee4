"""Norms, softmax and the losses that are operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.gradients.checking import check_gradients

RNG = np.random.default_rng(5)


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
def test_gradient_of_softmax(op_type: str, axis: int) -> None:
    check_gradients([helper.make_node(op_type, ["x"], ["y"], axis=axis)], {"x": _array(2, 3, 4)})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axis", [-1, 1])
def test_gradient_of_layer_normalization(axis: int, bias: bool) -> None:
    shape = (4,) if axis == -1 else (3, 4)
    feeds = {"x": _array(2, 3, 4), "s": _array(*shape), **({"b": _array(*shape)} if bias else {})}
    node = helper.make_node("LayerNormalization", list(feeds), ["y"], axis=axis, epsilon=1e-3)
    check_gradients([node], feeds)


def test_gradient_of_instance_normalization() -> None:
    feeds = {"x": _array(2, 3, 4, 2), "s": _array(3), "b": _array(3)}
    check_gradients([helper.make_node("InstanceNormalization", list(feeds), ["y"], epsilon=1e-3)], feeds)


def test_gradient_of_group_normalization() -> None:
    feeds = {"x": _array(2, 6, 4), "s": _array(6), "b": _array(6)}
    node = helper.make_node("GroupNormalization", list(feeds), ["y"], num_groups=2, epsilon=1e-3)
    check_gradients([node], feeds, opset=21, held=("s", "b"))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 2)], ids=str)
def test_gradient_of_batch_normalization_with_its_running_statistics(shape: tuple[int, ...]) -> None:
    feeds = {"x": _array(*shape), "s": _array(3), "b": _array(3)}
    constants = {"m": _array(3), "v": np.abs(_array(3)) + 0.3}
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=1e-3)
    check_gradients([node], feeds, constants, held=("s", "b"))


@pytest.mark.parametrize("axes", [(0, 2, 3), (2, 3), (1,)], ids=str)
def test_gradient_of_mean_variance_normalization(axes: tuple[int, ...]) -> None:
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"], axes=axes)
    check_gradients([node], {"x": _array(2, 3, 2, 4)}, opset=18)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [1, -1])
def test_gradient_of_lp_normalization(axis: int, p: int) -> None:
    check_gradients([helper.make_node("LpNormalization", ["x"], ["y"], axis=axis, p=p)], {"x": _array(2, 3, 4)})


@pytest.mark.parametrize("size", [1, 3, 7])
def test_gradient_of_local_response_normalization(size: int) -> None:
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.3, beta=0.6, bias=0.8)
    check_gradients([node], {"x": _array(2, 5, 2, 2)})


LOSSES = [
    {"reduction": "mean"},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"reduction": "mean", "ignore_index": 2},
    {"reduction": "mean", "ignore_index": -100},
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("attributes", LOSSES, ids=str)
@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("op_type", ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"])
def test_gradient_of_cross_entropy(
    op_type: str, shape: tuple[int, ...], attributes: dict[str, Any], weighted: bool
) -> None:
    labels = np.random.default_rng(6).integers(0, shape[1], (shape[0], *shape[2:]))
    if "ignore_index" in attributes:
        labels.reshape(-1)[1::3] = attributes["ignore_index"]
    constants = {"w": np.abs(_array(shape[1])) + 0.2} if weighted else {}
    node = helper.make_node(op_type, ["x", "labels", *constants], ["y"], **attributes)
    check_gradients([node], {"x": _array(*shape), "labels": labels}, constants)


def test_gradient_of_cross_entropy_that_gives_its_probabilities() -> None:
    node = helper.make_node("SoftmaxCrossEntropyLoss", ["x", "labels"], ["y", "p"])
    labels = np.array([[0, 2], [1, 1]])
    check_gradients([node], {"x": _array(2, 3, 2), "labels": labels})
