"""Losses against those that PyTorch has, value and gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.artifacts.loss_graphs import loss_and_gradient

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
functional: Any = torch.nn.functional

RNG = np.random.default_rng(3)
X = RNG.normal(0, 3, (3, 4, 5, 2)).astype(np.float32)
VALUES = RNG.normal(0, 3, X.shape).astype(np.float32)
LABELS = RNG.integers(0, 4, (3, 5, 2))
FEW = np.where(RNG.uniform(size=LABELS.shape) > 0.4, -1, LABELS)
WEIGHTS = (0.5, 2.0, 0.0, 1.0)
CE = functional.cross_entropy

CASES: dict[str, tuple[Any, Callable[..., Any]]] = {
    "huber(delta=0.7)": (VALUES, lambda x, t: functional.huber_loss(x, t.double(), delta=0.7)),
    "ce(ignore=-1)": (FEW, lambda x, t: CE(x, t, ignore_index=-1)),
    "ce(class_weights=[0.5,2,0,1])": (LABELS, lambda x, t: CE(x, t, torch.tensor(WEIGHTS).double())),
    "ce(smoothing=0.3)": (LABELS, lambda x, t: CE(x, t, label_smoothing=0.3)),
    "ce(ignore=-1,class_weights=[0.5,2,0,1],smoothing=0.1)": (
        FEW,
        lambda x, t: CE(x, t, torch.tensor(WEIGHTS).double(), ignore_index=-1, label_smoothing=0.1),
    ),
}


@pytest.mark.parametrize("loss", CASES)
def test_value_and_gradient_are_those_of_pytorch(loss: str) -> None:
    target, formula = CASES[loss]
    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    expected = formula(x, torch.tensor(target))
    expected.backward()
    value, gradient = loss_and_gradient(loss, X, target)
    assert value == pytest.approx(expected.item(), rel=1e-6)
    assert np.abs(gradient - x.grad.numpy()).max() < 1e-7
