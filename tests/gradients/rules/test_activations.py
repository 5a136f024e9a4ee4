"""Functions of one number, smooth ones and ones that bend."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.gradients.checking import check_gradients

X = np.random.default_rng(1).normal(size=(2, 3, 4)) * 1.7
POSITIVE = np.abs(X) + 0.1
INSIDE = np.tanh(X) * 0.9


@pytest.mark.parametrize(
    ("op_type", "x"),
    [
        *((op, X) for op in ("Sigmoid", "Tanh", "Exp", "Erf", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh", "Neg")),
        *((op, X) for op in ("Softplus", "Softsign", "Mish", "Relu", "Abs", "HardSwish", "Identity")),
        *((op, POSITIVE) for op in ("Sqrt", "Log", "Reciprocal")),
        *((op, INSIDE) for op in ("Asin", "Acos", "Tan", "Atanh")),
        ("Acosh", POSITIVE + 1),
    ],
)
def test_gradient_of_a_function_is_its_derivative(op_type: str, x: np.ndarray) -> None:
    check_gradients([helper.make_node(op_type, ["x"], ["y"])], {"x": x})


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("LeakyRelu", {"alpha": 1.5}),
        ("LeakyRelu", {"alpha": -0.4}),
        ("Elu", {}),
        ("Elu", {"alpha": 1.7}),
        ("Celu", {"alpha": 0.6}),
        ("Selu", {}),
        ("Selu", {"alpha": 1.2, "gamma": 0.7}),
        ("ThresholdedRelu", {"alpha": 0.6}),
        ("Shrink", {"lambd": 0.7, "bias": 0.2}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.45}),
    ],
)
def test_gradient_of_a_function_with_attributes(op_type: str, attributes: dict[str, float]) -> None:
    check_gradients([helper.make_node(op_type, ["x"], ["y"], **attributes)], {"x": X})


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gradient_of_gelu_is_that_of_its_form(approximate: str) -> None:
    check_gradients([helper.make_node("Gelu", ["x"], ["y"], approximate=approximate)], {"x": X}, opset=20)


@pytest.mark.parametrize("op_type", ["Elu", "Celu", "Selu", "Softplus", "Mish", "Sigmoid"])
def test_gradient_is_finite_far_from_zero(op_type: str) -> None:
    from tests.gradients.checking import gradient_model, model_of, run

    x = np.array([[[-300.0, -90, 90, 300]]], np.float32)
    model = model_of([helper.make_node(op_type, ["x"], ["y"])], {"x": x})
    (_, slope) = run(gradient_model(model, ["x"], [np.ones_like(x)]), {"x": x})
    assert np.isfinite(slope).all()
    assert slope[0, 0, 0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("slope", [(3, 1), (1,), (3, 4), (2, 3, 4)])
def test_gradient_of_prelu_by_slopes_that_are_repeated(slope: tuple[int, ...]) -> None:
    slopes = np.random.default_rng(2).uniform(0.1, 0.6, slope)
    check_gradients([helper.make_node("PRelu", ["x", "slope"], ["y"])], {"x": X, "slope": slopes})


@pytest.mark.parametrize(
    ("least", "most"), [(-0.5, 0.8), (-0.5, None), (None, 0.8), (None, None)], ids=["both", "least", "most", "neither"]
)
def test_gradient_of_clip_is_that_of_its_range(least: float | None, most: float | None) -> None:
    limits = {name: np.array(v, np.float32) for name, v in (("least", least), ("most", most)) if v is not None}
    names = [name if name in limits else "" for name in ("least", "most")]
    check_gradients([helper.make_node("Clip", ["x", *names], ["y"])], {"x": X}, limits)


def test_limits_of_clip_belong_to_its_range() -> None:
    from tests.gradients.checking import gradient_model, model_of, run

    x = np.array([-2, -1, 0, 1, 2], np.float32)
    limits = {"least": np.array(-1, np.float32), "most": np.array(1, np.float32)}
    model = model_of([helper.make_node("Clip", ["x", "least", "most"], ["y"])], {"x": x}, limits)
    (_, slope) = run(gradient_model(model, ["x"], [np.ones_like(x)]), {"x": x})
    np.testing.assert_array_equal(slope, [0, 1, 1, 1, 0])
