"""Losses with parameters against their formulas in float64, value and gradient, at ordinary and extreme numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

import numpy as np
import pytest

from tests.artifacts.loss_graphs import loss_and_gradient
from tests.oracles import losses
from tests.support.models import Array
from tgdonnx.artifacts.losses import parse_loss
from tgdonnx.errors import UntrainableError

SHAPE = (2, 3, 2, 4)
RNG = np.random.default_rng(7)
X = RNG.normal(0, 2, SHAPE).astype(np.float32)
VALUES = RNG.normal(0, 2, SHAPE).astype(np.float32)
MASKS = (RNG.uniform(0, 1, SHAPE) > 0.4).astype(np.float32)
SHARES = RNG.uniform(0, 1, SHAPE).astype(np.float32)
LABELS = RNG.integers(0, 3, (2, 2, 4))
FEW = np.where(RNG.uniform(0, 1, LABELS.shape) > 0.5, 255, LABELS)
WEIGHT = RNG.uniform(0, 2, SHAPE).astype(np.float32) * (RNG.uniform(0, 1, SHAPE) > 0.3)
FOR_ALL = RNG.uniform(0, 1, (2, 1, 2, 4)).astype(np.float32)
BALANCE = (0.25, 1.0, 3.0)


def damp(gamma: float) -> Callable[[float], float]:
    return lambda p: (1 - p) ** gamma


CASES: dict[str, tuple[Array, Optional[Array], Callable[..., float]]] = {
    "huber": (VALUES, None, losses.huber),
    "huber(delta=0.3)": (VALUES, None, partial(losses.huber, delta=0.3)),
    "pinball": (VALUES, None, losses.pinball),
    "pinball(q=0.9)": (VALUES, None, partial(losses.pinball, q=0.9)),
    "mse(weight=m)": (VALUES, WEIGHT, losses.mse),
    "0.5*mse(weight=m)+huber(delta=2,weight=m)": (
        VALUES,
        FOR_ALL,
        lambda y, t, weight: 0.5 * losses.mse(y, t, weight) + losses.huber(y, t, 2, weight),
    ),
    "focal": (MASKS, None, losses.focal),
    "focal(gamma=0)": (SHARES, None, partial(losses.focal, gamma=0)),
    "focal(gamma=0.5,alpha=0.25)": (SHARES, None, partial(losses.focal, gamma=0.5, alpha=0.25)),
    "focal(gamma=3,weight=m)": (MASKS, FOR_ALL, partial(losses.focal, gamma=3)),
    "dice": (MASKS, None, lambda x, t: losses.dice(1 / (1 + np.exp(-x)), t)),
    "dice(smooth=0.01)": (SHARES, None, lambda x, t: losses.dice(1 / (1 + np.exp(-x)), t, 0.01)),
    "ce(ignore=255)": (FEW, None, partial(losses.ce, ignore=255)),
    "ce(ignore=1)": (LABELS, None, partial(losses.ce, ignore=1)),
    "ce(ignore=7)": (LABELS, None, partial(losses.ce, ignore=7)),
    "ce(class_weights=[0.25,1,3])": (LABELS, None, partial(losses.ce, weights=BALANCE)),
    "ce(smoothing=0.2)": (LABELS, None, partial(losses.ce, smoothing=0.2)),
    "ce(ignore=255,class_weights=[0.25,1,3],smoothing=0.1)": (
        FEW,
        None,
        partial(losses.ce, ignore=255, weights=BALANCE, smoothing=0.1),
    ),
    "class_focal": (LABELS, None, partial(losses.ce, damped=damp(2))),
    "class_focal(gamma=0.5,ignore=255,class_weights=[0.25,1,3])": (
        FEW,
        None,
        partial(losses.ce, ignore=255, weights=BALANCE, damped=damp(0.5)),
    ),
    "class_dice": (LABELS, None, losses.class_dice),
    "class_dice(smooth=0.1,ignore=255)": (FEW, None, partial(losses.class_dice, smooth=0.1, ignore=255)),
    "ce(ignore=255)+2*class_dice(ignore=255)": (
        FEW,
        None,
        lambda x, t: losses.ce(x, t, 255) + 2 * losses.class_dice(x, t, ignore=255),
    ),
    "bce+dice": (
        MASKS,
        None,
        lambda x, t: float(np.mean(np.logaddexp(0, x) - x * t)) + losses.dice(1 / (1 + np.exp(-x)), t),
    ),
}


@pytest.mark.parametrize("loss", CASES)
def test_value_and_gradient_are_those_of_the_formula(loss: str) -> None:
    target, weight, formula = CASES[loss]
    given: dict[str, Any] = {} if weight is None else {"weight": weight}
    value, gradient = loss_and_gradient(loss, X, target, **given)
    assert abs(value - formula(X.astype(np.float64), target, **given)) < 1e-6 * max(1, abs(value))
    assert np.abs(gradient - losses.slopes(lambda x: formula(x, target, **given), X)).max() < 1e-6


@pytest.mark.parametrize("loss", ["ce(ignore=255,class_weights=[0.25,1,3],smoothing=0.1)", "class_focal", "class_dice"])
@pytest.mark.parametrize("ending", ["y = Softmax<axis = -1>(x)", "y = Identity(x)"])
def test_classes_may_be_the_last_axis(loss: str, ending: str) -> None:
    target, _, formula = CASES[loss]
    said = loss if "Softmax" in ending else loss.rstrip(")") + (",axis=-1)" if "(" in loss else "(axis=-1)")
    value, gradient = loss_and_gradient(said, np.moveaxis(X, 1, -1).copy(), target, ending)
    assert abs(value - formula(X.astype(np.float64), target)) < 1e-6
    expected = losses.slopes(lambda x: formula(x, target), X)
    assert np.abs(np.moveaxis(gradient, -1, 1) - expected).max() < 1e-6


@pytest.mark.parametrize(
    "loss",
    [
        "ce(ignore=9)",
        "ce(ignore=9,smoothing=0.1)",
        "class_focal(ignore=9)",
        "ce(class_weights=[1,1,0])",
        "class_dice(ignore=9)",
    ],
)
def test_where_nothing_counts_the_loss_and_its_gradient_are_0(loss: str) -> None:
    value, gradient = loss_and_gradient(loss, X, np.full(LABELS.shape, 2 if "weights" in loss else 9))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", ["mse(weight=m)", "l1(weight=m)", "bce(weight=m)", "charbonnier(weight=m)"])
def test_where_all_weights_are_0_the_loss_and_its_gradient_are_0(loss: str) -> None:
    value, gradient = loss_and_gradient(loss, X, SHARES, weight=np.zeros_like(FOR_ALL))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", ["mse", "l1", "bce", "charbonnier", "huber", "pinball", "focal"])
def test_weights_of_1_change_nothing_but_rounding(loss: str) -> None:
    plain, slope = loss_and_gradient(loss, X, SHARES)
    value, gradient = loss_and_gradient(f"{loss}(weight=m)", X, SHARES, weight=np.ones_like(FOR_ALL))
    assert value == pytest.approx(plain, rel=1e-6)
    assert np.abs(gradient - slope).max() < 1e-8


@pytest.mark.parametrize("loss", ["focal", "focal(gamma=0.5)", "class_focal", "class_focal(gamma=0.5)", "ce(ignore=9)"])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_logits_give_neither_infinity_nor_nan(loss: str, size: float) -> None:
    x = np.sign(X) * np.float32(size)
    value, gradient = loss_and_gradient(loss, x, MASKS if loss.startswith("focal") else LABELS)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_dice_needs_axes_of_space() -> None:
    with pytest.raises(UntrainableError, match="the loss dice needs an output with axes of space"):
        loss_and_gradient("dice", X[:, :, 0, 0], MASKS[:, :, 0, 0])


def test_class_weights_are_one_for_each_class() -> None:
    with pytest.raises(UntrainableError, match=r"2 class_weights, and the output 3 classes \(axis 1\)"):
        loss_and_gradient("ce(class_weights=[1,2])", X, LABELS)
    assert parse_loss("ce(class_weights=[1,2])").output_problem((None, None, 4)) is None
