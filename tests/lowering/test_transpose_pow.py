"""Operators that need their attributes and types written out before the runtime differentiates them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.lowering.gradcheck import DYNAMIC, STATIC, check_forward, check_gradients, lowered_by, one_node
from tests.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.transpose_pow import LowerTransposePow


def positive(*shape: int) -> Array:
    return np.random.default_rng(0).uniform(0.5, 2, shape).astype(np.float32)


@pytest.mark.training
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (1, 3, 4, 2)])
@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
@pytest.mark.parametrize("opset", [8, 13, 21])
def test_transpose_without_perm_reverses_the_axes(shape: tuple[int, ...], dims: str, opset: int) -> None:
    x = positive(*shape)
    model = one_node("Transpose", {"x": x}, opset=opset, dims=dims)
    lower = lowered_by(model, LowerTransposePow())
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, np.transpose)


@pytest.mark.training
@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
@pytest.mark.parametrize(
    "exponent", [2, [3], [[2, -1, 1]], [[[0]], [[2]]], 0.5, [0.5, 1.5, 2], [[1.5], [2]], [[[[0.5]]]]], ids=str
)
def test_pow_with_an_exponent_of_any_type_and_shape(exponent: object, dims: str) -> None:
    x = positive(2, 1, 3)
    value = np.asarray(exponent)
    value = value.astype(np.float32 if value.dtype.kind == "f" else np.int64)
    model = one_node("Pow", {"x": x}, opset=13, dims=dims, constants={"exponent": value})
    lower = lowered_by(model, LowerTransposePow())
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: x ** value.astype(np.float64))


def test_what_is_spelled_out_is_left_alone() -> None:
    x = positive(2, 3)
    for model in (
        one_node("Transpose", {"x": x}, opset=13, perm=[1, 0]),
        one_node("Pow", {"x": x}, opset=13, constants={"exponent": np.array(2, np.float32)}),
    ):
        assert not LowerTransposePow()(ir.from_proto(model)).modified


def test_refuses_to_reverse_an_unknown_number_of_axes() -> None:
    model = one_node("Transpose", {"x": positive(2, 3)}, opset=13)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UntrainableError, match=r"node 'node' \(Transpose\) has an input of unknown rank"):
        LowerTransposePow()(ir.from_proto(model))
