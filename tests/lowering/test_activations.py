"""Activation functions in operators that have a gradient: smooth ones, and those made of straight pieces."""

from __future__ import annotations

import math
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
from tgdonnx.lowering.activations import LowerActivations
from tgdonnx.lowering.piecewise import LowerPiecewise

ALPHA, GAMMA = 1.67326319217681884765625, 1.05070102214813232421875


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


def gelu_tanh(x: Array, approximate: str) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


SINCE = {"Celu": 12, "Gelu": 20, "HardSwish": 14, "Mish": 18, "PRelu": 8, "Shrink": 9, "ThresholdedRelu": 10}
FORMULAS: dict[str, Callable[..., Array]] = {
    "Elu": elu,
    "Selu": lambda x, alpha=ALPHA, gamma=GAMMA: gamma * elu(x, alpha),
    "Celu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)),
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + abs(x)),
    "Mish": lambda x: x * np.tanh(softplus(x)),
    "Gelu": gelu_tanh,
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: np.clip(alpha * x + beta, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "ThresholdedRelu": lambda x, alpha=1.0: np.where(x > alpha, x, 0),
    "Shrink": lambda x, bias=0.0, lambd=0.5: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)),
}
NUMBERS: dict[str, dict[str, tuple[float, float]]] = {
    "Elu": {"alpha": (0.1, 3)},
    "Selu": {"alpha": (0.1, 3), "gamma": (0.1, 3)},
    "Celu": {"alpha": (0.1, 3)},
    "HardSigmoid": {"alpha": (0.05, 0.5), "beta": (0.1, 0.9)},
    "ThresholdedRelu": {"alpha": (-0.5, 2)},
    "Shrink": {"bias": (-1, 1), "lambd": (0, 1)},
}
PASSES = (LowerActivations(), LowerPiecewise())


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return (rng.normal(size=shape) * draw(st.sampled_from([0.5, 3.0]))).astype(np.float32)


@st.composite
def functions(draw: st.DrawFn) -> tuple[str, int, dict[str, Any]]:
    op_type = draw(st.sampled_from(sorted(FORMULAS)))
    attributes: dict[str, Any] = {
        name: float(np.float32(draw(st.floats(*limits))))
        for name, limits in NUMBERS.get(op_type, {}).items()
        if draw(st.booleans())
    }
    if op_type == "Gelu":
        attributes["approximate"] = "tanh"
    return op_type, draw(st.integers(SINCE.get(op_type, 8), 21)), attributes


@pytest.mark.training
@settings(deadline=None, max_examples=120)
@given(functions(), arrays(), st.sampled_from([STATIC, DYNAMIC]))
def test_has_the_values_and_the_gradient_of_the_original(
    function: tuple[str, int, dict[str, Any]], x: Array, dims: str
) -> None:
    op_type, opset, attributes = function
    model = one_node(op_type, {"x": x}, opset=opset, dims=dims, **attributes)
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: FORMULAS[op_type](x, **attributes))


@pytest.mark.training
@settings(deadline=None, max_examples=60)
@given(arrays(), st.integers(8, 21), st.sampled_from([STATIC, DYNAMIC]), st.booleans(), st.data())
def test_prelu_has_the_values_of_the_original_and_the_gradient_of_its_slope(
    x: Array, opset: int, dims: str, stored: bool, data: st.DataObject
) -> None:
    shape = [data.draw(st.sampled_from([1, size])) for size in x.shape][data.draw(st.integers(0, x.ndim)) :]
    feeds = {"x": x, "slope": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    model = one_node("PRelu", feeds, opset=opset, dims=dims, parameters=["slope"] if stored else [])
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, feeds)
    check_gradients(lower, feeds, lambda x, slope: np.where(x > 0, x, slope * x))


@pytest.mark.training
@pytest.mark.parametrize("limits", [(-0.4, 0.7), (-0.4, None), (None, 0.7), (None, None), (0.1, 0.1)])
@pytest.mark.parametrize("opset", [8, 10, 11, 12, 13, 21])
@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
def test_clip_has_the_gradient_of_the_original_in_every_operator_set(
    limits: tuple[float | None, float | None], opset: int, dims: str
) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    names = [name for name, limit in zip(("min", "max"), limits) if limit is not None]
    numbers = {name: np.float32(limit) for name, limit in zip(("min", "max"), limits) if limit is not None}
    if opset < 11:
        model = one_node("Clip", {"x": x}, opset=opset, dims=dims, **{k: float(v) for k, v in numbers.items()})
    else:
        inputs = ["x", *(name if name in names else "" for name in ("min", "max"))]
        constants = {name: np.asarray(number) for name, number in numbers.items()}
        while not inputs[-1]:
            inputs.pop()
        model = one_node("Clip", {"x": x}, opset=opset, dims=dims, constants=constants, inputs=inputs)
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})
    low, high = (np.inf * sign if limit is None else np.float32(limit) for limit, sign in zip(limits, (-1, 1)))
    check_gradients(lower, {"x": x}, lambda x: np.clip(x, low, high))


@pytest.mark.training
@pytest.mark.parametrize(
    ("op_type", "attributes", "derivative"),
    [
        ("Softplus", {}, 0.5),
        ("Elu", {"alpha": 1.0}, 1.0),
        ("Elu", {"alpha": 0.3}, 0.3),
        ("Selu", {}, ALPHA * GAMMA),
        ("Celu", {"alpha": 2.0}, 1.0),
        ("Softsign", {}, 1.0),
        ("Mish", {}, math.tanh(math.log(2))),
        ("Gelu", {"approximate": "tanh"}, 0.5),
        ("HardSwish", {}, 0.5),
    ],
)
def test_has_the_derivative_of_the_definition_at_zero(
    op_type: str, attributes: dict[str, Any], derivative: float
) -> None:
    x = np.zeros((2, 2), np.float32)
    model = one_node(op_type, {"x": x}, opset=20, **attributes)
    found = gradients(lowered_by(model, *PASSES), {"x": x}, np.ones((2, 2), np.float32))["x"]
    assert np.allclose(found, derivative, rtol=1e-6, atol=0)


@pytest.mark.training
@pytest.mark.parametrize("op_type", ["Softplus", "Mish", "Elu", "Selu", "Celu", "Softsign", "HardSwish"])
def test_far_from_zero_nothing_overflows(op_type: str) -> None:
    x = np.array([-3e4, -200, -90, -30, 30, 90, 200, 3e4], np.float32)
    model = one_node(op_type, {"x": x}, opset=18)
    lower = lowered_by(model, *PASSES)
    found = run(lower, {"x": x})
    assert np.allclose(found, FORMULAS[op_type](x.astype(np.float64)), rtol=1e-6, atol=1e-6)
    gradient = gradients(lower, {"x": x}, np.ones_like(x))["x"]
    scale = {"Selu": GAMMA, "Softsign": 0}.get(op_type, 1)
    assert np.allclose(gradient, np.where(x > 0, scale, 0), rtol=1e-6, atol=2e-3)


def test_the_exact_gelu_is_left_to_the_runtime() -> None:
    x = np.zeros((2, 2), np.float32)
    model = one_node("Gelu", {"x": x}, opset=20)
    assert not LowerActivations()(ir.from_proto(model)).modified
