"""Where with operands that broadcast, and Split of which an output is not used."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lowering.gradcheck import DYNAMIC, STATIC, check_forward, check_gradients, lowered_by, one_node
from tests.models import Array
from tgdonnx.lowering.split import LowerSplit
from tgdonnx.lowering.where import LowerWhere

dims = st.sampled_from([STATIC, DYNAMIC])


@pytest.mark.training
@settings(deadline=None, max_examples=60)
@given(st.data(), dims)
def test_where_of_operands_that_broadcast(data: st.DataObject, dims: str) -> None:
    shape = data.draw(st.lists(st.integers(2, 3), min_size=1, max_size=4))
    rng = np.random.default_rng(0)
    sizes = [
        [data.draw(st.sampled_from([1, size])) for size in shape][data.draw(st.integers(0, len(shape) - 1)) :]
        for _ in range(3)
    ]
    sizes[data.draw(st.integers(0, 2))] = shape
    condition = rng.random(sizes[0]) < 0.5
    feeds = {name: rng.normal(size=size).astype(np.float32) for name, size in zip("ab", sizes[1:])}
    model = one_node(
        "Where",
        feeds,
        opset=data.draw(st.integers(9, 21)),
        dims=dims,
        constants={"condition": condition},
        inputs=["condition", "a", "b"],
    )
    lower = lowered_by(model, LowerWhere())
    check_forward(model, lower, feeds)
    check_gradients(lower, feeds, lambda a, b: np.where(condition, a, b))


def test_where_of_equal_shapes_or_a_constant_number_is_left_alone() -> None:
    x = np.zeros((2, 3), np.float32)
    for b in (x, np.zeros((), np.float32)):
        constants = {"condition": x < 1, "b": b}
        model = ir.from_proto(one_node("Where", {"a": x}, opset=9, constants=constants, inputs=["condition", "a", "b"]))
        model.graph.outputs[0].shape = ir.Shape([2, 3])
        assert not LowerWhere()(model).modified


def split_model(opset: int, dims: str, used: list[int], x: Array) -> Any:
    """Split in three along axis 1, of which the parts in ``used`` are joined to ``y``."""
    constants, attributes = {}, {"axis": 1}
    if opset < 13:
        attributes["split"] = [1, 2, 3]
    else:
        constants["sizes"] = np.array([1, 2, 3])
    model = one_node(
        "Split", {"x": x}, opset=opset, dims=dims, constants=constants, outputs=["p0", "p1", "p2"], **attributes
    )
    model.graph.node.add(op_type="Concat", input=[f"p{index}" for index in used], output=["y"]).attribute.add(
        name="axis", i=1, type=2
    )
    return model


@pytest.mark.training
@pytest.mark.parametrize("opset", [8, 12, 13, 18, 21])
@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
@pytest.mark.parametrize("used", [[0], [1], [2, 0], [1, 2], [0, 1, 2]])
def test_split_has_the_gradient_of_the_original_whatever_parts_are_used(opset: int, dims: str, used: list[int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 2)).astype(np.float32)
    model = split_model(opset, dims, used, x)
    lower = lowered_by(model, LowerSplit())
    check_forward(model, lower, {"x": x})
    parts = [slice(0, 1), slice(1, 3), slice(3, 6)]
    check_gradients(lower, {"x": x}, lambda x: np.concatenate([x[:, parts[index]] for index in used], 1))


def test_split_is_left_alone_if_all_of_it_is_used() -> None:
    model = ir.from_proto(split_model(13, STATIC, [0, 2, 1], np.zeros((2, 6, 2), np.float32)))
    assert not LowerSplit()(model).modified
