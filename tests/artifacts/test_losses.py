"""Losses by their formulas in float64, with their gradients, at ordinary and at extreme logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tgdonnx
from tests.artifacts.loss_graphs import graph, loss_and_gradient, off_by
from tests.oracles.numpy_net import loss_gradient, loss_of
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.trainer import make_artifacts, open_trainer
from tests.support.training_models import text_model
from tgdonnx.artifacts.losses import add_loss, parse_loss
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.opset_upgrade import OPSET
from tgdonnx.runtime import NEWEST

LOSSES = ("mse", "l1", "bce", "ce", "charbonnier")


def sample(loss: str, shape: tuple[int, ...] = (3, 4, 5), seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, shape).astype(np.float32)
    if loss == "ce":
        return x, rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target = rng.uniform(0, 1, shape) if loss == "bce" else rng.normal(0, 2, shape)
    return x, target.astype(np.float32)


def slopes(loss: str, x: Array, target: Array) -> Array:
    """Central differences in float64."""
    x, found = x.astype(np.float64), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-6
        found[index] = (loss_of(loss, x + step, target) - loss_of(loss, x - step, target)) / 2e-6
    return found


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(LOSSES),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)),
    st.integers(2, 4),
    st.integers(0, 99),
)
def test_value_and_gradient_are_those_of_the_formula(loss: str, shape: tuple[int, ...], rank: int, seed: int) -> None:
    x, target = sample(loss, shape[:rank], seed)
    value, gradient = loss_and_gradient(loss, x, target)
    assert abs(value - loss_of(loss, x.astype(np.float64), target)) < 1e-6 * max(1, abs(value))
    assert np.abs(gradient - slopes(loss, x, target)).max() < 1e-5
    assert off_by(gradient, loss_gradient(loss, x.astype(np.float64), target)) < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("opset", range(OPSET, NEWEST + 1))
def test_every_operator_set_that_graphs_are_brought_to_has_the_loss(loss: str, opset: int) -> None:
    x, target = sample(loss)
    value, gradient = loss_and_gradient(loss, x, target, opset=opset)
    assert abs(value - loss_of(loss, x.astype(np.float64), target)) < 1e-6 * abs(value)
    assert off_by(gradient, loss_gradient(loss, x.astype(np.float64), target)) < 1e-6


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("logit", [-1e4, -100.0, -20.0, -1e-3, 0.0, 1e-3, 20.0, 100.0, 1e4])
def test_bce_neither_overflows_nor_loses_its_slope(logit: float, target: float) -> None:
    value, gradient = loss_and_gradient("bce", np.full((1, 1), logit, np.float32), np.full((1, 1), target, np.float32))
    exact = np.full((1, 1), np.float64(np.float32(logit)))
    assert abs(value - loss_of("bce", exact, np.full((1, 1), target))) <= 2e-7 * max(1, abs(logit))
    assert abs(gradient[0, 0] - loss_gradient("bce", exact, np.full((1, 1), target))[0, 0]) <= 1e-7


def test_bce_at_logit_0_has_slope_one_half_minus_target() -> None:
    _, gradient = loss_and_gradient("bce", np.zeros((1, 3), np.float32), np.array([[0, 0.5, 1]], np.float32))
    assert np.array_equal(gradient, np.array([[0.5, 0.0, -0.5]], np.float32) / np.float32(3))


def test_l1_has_no_slope_where_output_and_target_agree() -> None:
    value, gradient = loss_and_gradient("l1", np.array([[1, -2.0]], np.float32), np.array([[1, -4.0]], np.float32))
    assert value == 1.0
    assert gradient.tolist() == [[0.0, 0.5]]


def test_charbonnier_is_smooth_where_output_and_target_agree() -> None:
    x = np.array([[1.0, 1.001, 1.01, 3.0]], np.float32)
    value, gradient = loss_and_gradient("charbonnier", x, np.ones_like(x))
    assert value == pytest.approx((0.001 + 0.001 * 2**0.5 + 0.001 * 101**0.5 + 2.0) / 4, rel=1e-4)
    assert gradient[0] == pytest.approx(np.array([0, 2**-0.5, 10 / 101**0.5, 1.0]) / 4, abs=2e-5)


def test_charbonnier_of_data_of_another_range_is_the_same_in_units_of_the_range() -> None:
    x, target = sample("charbonnier")
    value, gradient = loss_and_gradient("charbonnier", x, target)
    scaled, slope = loss_and_gradient("charbonnier", 256 * x, 256 * target, data_range=256.0)
    assert scaled == pytest.approx(256 * value, rel=1e-6)
    assert np.abs(slope - gradient).max() < 1e-6 / x.size


def test_ce_of_extreme_logits_is_finite_and_exact() -> None:
    x = np.array([[100, -100, 0], [-1e4, 1e4, 1e4]], np.float32)
    target = np.array([1, 2])
    value, gradient = loss_and_gradient("ce", x, target)
    assert abs(value / loss_of("ce", x.astype(np.float64), target) - 1) < 1e-6
    assert np.abs(gradient - loss_gradient("ce", x.astype(np.float64), target)).max() < 1e-7


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_any_size_has_the_mean_over_its_elements(loss: str) -> None:
    model = graph(loss, (), dims="N, 4, H")
    session = open_session(ir.to_proto(model))
    for shape in ((1, 4, 2), (5, 4, 7)):
        x, target = sample(loss, shape)
        value = float(session.run(None, {"x": x, "target": target})[0])
        assert abs(value - loss_of(loss, x.astype(np.float64), target)) < 1e-6 * abs(value)


def test_bce_takes_the_logits_of_a_model_that_ends_in_sigmoid() -> None:
    x, target = sample("bce")
    value, gradient = loss_and_gradient("bce", x, target, "y = Sigmoid(x)")
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert abs(value + np.mean(target * np.log(p) + (1 - target) * np.log(1 - p))) < 1e-6
    assert np.abs(gradient - (p - target) / x.size).max() < 1e-6 / x.size
    x[:] = 100  # where the probability rounds to 1 and the slope of the sigmoid to 0
    assert loss_and_gradient("bce", x, np.zeros_like(x), "y = Sigmoid(x)")[1].min() == pytest.approx(
        1 / x.size, rel=1e-6
    )


def softmax(x: Array, axes: Any) -> Array:
    shifted = np.exp(x.astype(np.float64))
    return shifted / shifted.sum(axis=axes, keepdims=True)


@pytest.mark.parametrize(
    ("shape", "ending", "opset"),
    [
        ((3, 4), "y = Softmax<axis = 1>(x)", 17),
        ((3, 4), "y = Softmax(x)", 17),
        ((3, 4, 2, 5), "y = Softmax<axis = 1>(x)", 17),
        ((3, 4, 2, 5), "y = Softmax<axis = -3>(x)", 17),
    ],
)
def test_ce_takes_the_logits_of_a_model_that_ends_in_softmax_over_classes(
    shape: tuple[int, ...], ending: str, opset: int
) -> None:
    x, target = sample("ce", shape)
    value, gradient = loss_and_gradient("ce", x, target, ending, opset)
    p = np.take_along_axis(softmax(x, 1), target[:, None], axis=1)
    assert abs(value + np.mean(np.log(p))) < 1e-6
    assert np.abs(gradient - loss_gradient("ce", x.astype(np.float64), target)).max() < 1e-6 / target.size


def without_rank(ending: str) -> ir.Model:
    model = ir.from_proto(text_model(f"g (float[3, 4] x) => (float[3, 4] y) {{ {ending} }}"))
    model.graph.outputs[0].shape = None
    return model


def test_ce_takes_the_logits_before_a_softmax_over_axis_1_of_an_output_of_unknown_rank() -> None:
    model = without_rank("y = Softmax<axis = 1>(x)")
    model.graph.outputs[:] = [add_loss(model, model.graph.outputs[0], parse_loss("ce"))]
    x, target = sample("ce", (3, 4))
    (value,) = open_session(ir.to_proto(model)).run(None, {"x": x, "target": target})
    assert abs(value - loss_of("ce", x.astype(np.float64), target)) < 1e-6


def test_a_softmax_over_the_last_axis_of_an_output_of_unknown_rank_is_refused() -> None:
    model = without_rank("s = Softmax(x) y = Identity(s)")
    with pytest.raises(
        UntrainableError, match="cannot tell which axis counts classes; declare the shapes of the model's"
    ):
        add_loss(model, model.graph.outputs[0], parse_loss("ce"))


def test_ce_takes_what_a_softmax_over_places_gives_for_logits() -> None:
    x = np.random.default_rng(2).normal(size=(3, 4, 5, 6)).astype(np.float32)
    target = np.random.default_rng(3).integers(0, 4, (3, 5, 6))
    value, _ = loss_and_gradient("ce", x, target, "y = Softmax<axis = 2>(x)")
    assert abs(value - loss_of("ce", softmax(x, 2), target)) < 1e-6


@pytest.mark.parametrize(
    ("ending", "logits"),
    [
        ("y = Softmax(x)", lambda x: x),
        ("s = Softmax<axis = 3>(x)\n y = Identity(s)", lambda x: x),
        ("t = Transpose<perm = [0, 2, 3, 1]>(x)\n y = Softmax(t)", lambda x: x.transpose(0, 2, 3, 1)),
        ("y = Transpose<perm = [0, 2, 3, 1]>(x)", lambda x: x.transpose(0, 2, 3, 1)),
        ("t = Transpose<perm = [0, 2, 3, 1]>(x)\n y = Add(t, b)", lambda x: x.transpose(0, 2, 3, 1) + BIAS),
        ("t = MatMul(x, w)\n y = Add(t, b)", lambda x: x @ WEIGHTS + BIAS),
    ],
)
def test_ce_takes_the_last_axis_for_classes_where_the_model_says_that_it_is(ending: str, logits: Any) -> None:
    x = np.random.default_rng(2).normal(size=(3, 6, 6, 6)).astype(np.float32)
    target = np.random.default_rng(3).integers(0, 6, (3, 6, 6))
    given = {"w": WEIGHTS.astype(np.float32), "b": BIAS.astype(np.float32)}
    text = f"g (float[3, 6, 6, 6] x) => (float[3, 6, 6, 6] y) {{ {ending} }}"
    model = ir.from_proto(text_model(text, **{name: array for name, array in given.items() if f", {name})" in ending}))
    model.graph.outputs[:] = [add_loss(model, model.graph.outputs[0], parse_loss("ce"))]
    session = open_session(ir.to_proto(model))
    (value,) = session.run(None, {"x": x, "target": target})
    expected = loss_of("ce", np.moveaxis(logits(x.astype(np.float64)), -1, 1), target)
    assert abs(value - expected) < 1e-6


WEIGHTS = np.random.default_rng(5).normal(size=(6, 6))
BIAS = np.random.default_rng(6).normal(size=6)


@pytest.mark.parametrize("loss", ["mse", "l1", "charbonnier"])
def test_all_but_bce_and_ce_compare_what_the_model_gives_also_behind_a_sigmoid(loss: str) -> None:
    x, target = sample(loss)
    value, _ = loss_and_gradient(loss, x, target, "y = Sigmoid(x)")
    assert abs(value - loss_of(loss, 1 / (1 + np.exp(-x.astype(np.float64))), target)) < 1e-6


@pytest.mark.parametrize(
    ("loss", "ending"),
    [("bce", "s = Sigmoid(x)\n y = Identity(s)"), ("ce", "s = Softmax<axis = 1>(x)\n y = Identity(s)")],
)
def test_an_identity_at_the_end_does_not_hide_the_logits(loss: str, ending: str) -> None:
    x, target = sample(loss)
    assert loss_and_gradient(loss, x, target, ending)[0] == pytest.approx(
        loss_and_gradient(loss, x, target)[0], rel=1e-6
    )


@pytest.mark.parametrize(("loss", "ending"), [("bce", "y = Sigmoid(t)"), ("ce", "y = Softmax<axis = 1>(t)")])
def test_the_eval_model_still_gives_what_the_vendors_model_gives(loss: str, ending: str, tmp_path: Path) -> None:
    model = text_model(
        f"g (float[N, 2, W] x) => (float[N, 3, w] y) {{ t = Conv(x, w, b)\n {ending} }}", w=(3, 2, 2), b=(3,)
    )
    x = np.random.default_rng(0).normal(size=(4, 2, 6)).astype(np.float32)
    _, target = sample(loss, (4, 3, 5))
    trainer = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers(), loss=loss))
    _, output = trainer.evaluate(x, target)
    expected = open_session(model).run(None, {"x": x})[0]
    assert np.abs(output - expected).max() <= 1e-6
