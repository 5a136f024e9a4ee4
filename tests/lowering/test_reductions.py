"""Reductions, pooling over all of space, and operators of any number of inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lowering.gradcheck import (
    DYNAMIC,
    STATIC,
    check_forward,
    check_gradients,
    gradients,
    lowered_by,
    one_node,
    run,
)
from tests.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.global_pool import LowerGlobalPool
from tgdonnx.lowering.reductions import LowerReductions
from tgdonnx.lowering.sum_mean import LowerSumMean

PASSES = (LowerReductions(), LowerGlobalPool(), LowerSumMean())
dims = st.sampled_from([STATIC, DYNAMIC])
seeds = st.integers(0, 999)
REDUCTIONS: dict[str, Callable[..., Array]] = {
    "ReduceL1": lambda x, **axes: np.abs(x).sum(**axes),
    "ReduceL2": lambda x, **axes: np.sqrt((x * x).sum(**axes)),
    "ReduceLogSum": lambda x, **axes: np.log(x.sum(**axes)),
    "ReduceLogSumExp": lambda x, **axes: np.log(np.exp(x).sum(**axes)),
    "ReduceMax": lambda x, **axes: x.max(**axes),
    "ReduceMin": lambda x, **axes: x.min(**axes),
    "ReduceSumSquare": lambda x, **axes: (x * x).sum(**axes),
}


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(np.float32)


@pytest.mark.training
@settings(deadline=None, max_examples=120)
@given(st.data(), st.sampled_from(sorted(REDUCTIONS)), dims, seeds)
def test_a_reduction_over_any_axes_in_every_operator_set(
    data: st.DataObject, op_type: str, dims: str, seed: int
) -> None:
    opset = data.draw(st.integers(8, 21))
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rank = len(shape)
    axes = data.draw(st.one_of(st.none(), st.lists(st.integers(0, rank - 1), min_size=1, unique=True)))
    keepdims = data.draw(st.sampled_from([None, 0, 1]))
    x = normal(seed, *shape)
    if op_type == "ReduceLogSum":
        x = np.abs(x) + np.float32(0.1)
    attributes: dict[str, Any] = {} if keepdims is None else {"keepdims": keepdims}
    constants = {}
    given_axes = axes
    if axes is not None and opset >= 11:
        given_axes = [axis - rank if data.draw(st.booleans()) else axis for axis in axes]
    if given_axes is not None and opset >= 18:
        constants["axes"] = np.array(given_axes, np.int64)
    elif given_axes is not None:
        attributes["axes"] = given_axes
    model = one_node(op_type, {"x": x}, opset=opset, dims=dims, constants=constants, **attributes)
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})
    reduced = {"axis": None if axes is None else tuple(axes), "keepdims": keepdims != 0}
    check_gradients(lower, {"x": x}, lambda x: np.asarray(REDUCTIONS[op_type](x, **reduced)))


@pytest.mark.training
@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceL2", "ReduceLogSumExp"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_axes_may_be_computed_where_they_are_an_input(op_type: str, keepdims: int) -> None:
    x = normal(0, 2, 3, 4)
    axes = np.array([2, 0])
    model = one_node(
        op_type, {"x": x}, opset=18, constants={"axes": axes}, inputs=["x", "same_axes"], keepdims=keepdims
    )
    model.graph.node.insert(0, model.graph.node[0].__class__(op_type="Identity", input=["axes"], output=["same_axes"]))
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: REDUCTIONS[op_type](x, axis=(0, 2), keepdims=bool(keepdims)))


@pytest.mark.training
@pytest.mark.parametrize("op_type", sorted(REDUCTIONS))
def test_no_axes_can_mean_no_reduction(op_type: str) -> None:
    x = normal(0, 2, 3)
    constants = {"axes": np.zeros(0, np.int64)}
    model = one_node(op_type, {"x": x}, opset=18, constants=constants, noop_with_empty_axes=1)
    if op_type == "ReduceLogSumExp":
        model.graph.node[0].attribute.add(name="keepdims", i=1, type=2)
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: x)


@pytest.mark.training
@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin", "GlobalMaxPool"])
def test_equal_extremes_share_the_gradient(op_type: str) -> None:
    x = np.zeros((1, 1, 2, 3), np.float32)
    x[..., 0, :] = 1 if op_type != "ReduceMin" else -1
    attributes = {} if op_type == "GlobalMaxPool" else {"axes": [2, 3]}
    lower = lowered_by(one_node(op_type, {"x": x}, opset=13, **attributes), *PASSES)
    assert run(lower, {"x": x}).item() == x[0, 0, 0, 0]
    found = gradients(lower, {"x": x}, np.full((1, 1, 1, 1), 6, np.float32))["x"]
    assert np.allclose(found, [[[[2, 2, 2], [0, 0, 0]]]], rtol=1e-6, atol=0)


@pytest.mark.training
@pytest.mark.parametrize("op_type", ["ReduceL2", "GlobalLpPool"])
def test_the_norm_of_zeros_has_a_finite_gradient(op_type: str) -> None:
    x = np.zeros((1, 2, 3, 3), np.float32)
    attributes = {} if op_type == "GlobalLpPool" else {"axes": [2, 3]}
    lower = lowered_by(one_node(op_type, {"x": x}, opset=13, **attributes), *PASSES)
    assert not run(lower, {"x": x}).any()
    assert not gradients(lower, {"x": x}, np.ones((1, 2, 1, 1), np.float32))["x"].any()


@pytest.mark.training
@settings(deadline=None, max_examples=60)
@given(st.data(), dims, seeds)
def test_global_pooling_over_any_number_of_axes(data: st.DataObject, dims: str, seed: int) -> None:
    order = data.draw(st.sampled_from([None, 1, 2, 3]))
    op_type = data.draw(st.sampled_from(["GlobalMaxPool", "GlobalLpPool"]))
    space = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    x = normal(seed, data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)), *space)
    attributes = {"p": order} if order and op_type == "GlobalLpPool" else {}
    model = one_node(op_type, {"x": x}, opset=data.draw(st.integers(8, 21)), dims=dims, **attributes)
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})

    def formula(x: Array) -> Array:
        axes, p = tuple(range(2, x.ndim)), attributes.get("p", 2)
        if op_type == "GlobalMaxPool":
            return x.max(axes, keepdims=True)
        return (np.abs(x) ** p).sum(axes, keepdims=True) ** (1 / p)

    check_gradients(lower, {"x": x}, formula)


VARIADIC: dict[str, Callable[..., Array]] = {
    "Sum": lambda *xs: np.sum(np.broadcast_arrays(*xs), axis=0),
    "Mean": lambda *xs: np.mean(np.broadcast_arrays(*xs), axis=0),
    "Max": lambda *xs: np.max(np.broadcast_arrays(*xs), axis=0),
    "Min": lambda *xs: np.min(np.broadcast_arrays(*xs), axis=0),
}


@pytest.mark.training
@settings(deadline=None, max_examples=80)
@given(st.data(), st.sampled_from(sorted(VARIADIC)), dims, seeds)
def test_any_number_of_inputs_that_broadcast(data: st.DataObject, op_type: str, dims: str, seed: int) -> None:
    shape = data.draw(st.lists(st.integers(2, 3), min_size=1, max_size=4))
    feeds = {"a": normal(seed, *shape)}
    for name in "bcd"[: data.draw(st.integers(0, 3))]:
        own = [data.draw(st.sampled_from([1, size])) for size in shape][data.draw(st.integers(0, len(shape) - 1)) :]
        feeds[name] = normal(seed + ord(name), *own)
    order = data.draw(st.permutations(sorted(feeds)))
    feeds = {name: feeds[name] for name in order}
    model = one_node(op_type, feeds, opset=data.draw(st.integers(8, 21)), dims=dims)
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, feeds)
    check_gradients(lower, feeds, VARIADIC[op_type])


def test_shape_arithmetic_is_left_alone() -> None:
    model = one_node("Max", {"x": np.zeros(3, np.float32)}, opset=8)
    model.graph.input[0].type.tensor_type.elem_type = 7
    model.graph.output[0].type.tensor_type.elem_type = 7
    assert not LowerSumMean()(ir.from_proto(model)).modified


def test_only_the_wanted_nodes_are_replaced() -> None:
    model = ir.from_proto(one_node("ReduceMax", {"x": np.zeros(3, np.float32)}, opset=13))
    assert not LowerReductions(nodes=[])(model).modified
    assert LowerReductions(nodes=list(model.graph))(model).modified


def test_refuses_to_pool_over_an_unknown_number_of_axes() -> None:
    model = one_node("GlobalMaxPool", {"x": np.zeros((1, 1, 2), np.float32)}, opset=13)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(
        UntrainableError, match=r"node 'node' \(GlobalMaxPool\) has an input of unknown rank; declare the"
    ):
        LowerGlobalPool()(ir.from_proto(model))
