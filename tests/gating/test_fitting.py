"""The numbers of a detector, against PCA by the eigenvectors of the covariance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tgdonnx.errors import DataError
from tgdonnx.gating.fitting import ACCEPT, COMPONENTS, LEAST, fit, require_enough, require_share


def features(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(4, 20))
    return rng.normal(size=(count, 4)) @ mixing + rng.normal(0, 0.1, (count, 20)) + 3


def residual_by_hand(value: np.ndarray, others: np.ndarray, k: int) -> float:
    mean = others.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((others - mean).T))
    main = vectors[:, -k:]
    centred = value - mean
    return float(centred @ centred - ((centred @ main) ** 2).sum())


def test_every_input_is_judged_by_a_detector_of_the_others() -> None:
    values = features(40)
    fitted = fit(values, ACCEPT)
    for i in (0, 17, 39):
        expected = residual_by_hand(values[i], np.delete(values, i, axis=0), COMPONENTS)
        assert fitted.left_out[i] == pytest.approx(expected, rel=1e-9)
    assert fitted.basis.shape == (20, COMPONENTS)
    np.testing.assert_allclose(fitted.basis.T @ fitted.basis, np.eye(COMPONENTS), atol=1e-12)
    assert (fitted.left_out < fitted.threshold).sum() == 39  # 95 % and the one at the quantile


@pytest.mark.parametrize("count", [LEAST, 40])
@pytest.mark.parametrize("accept", [0.51, 0.75, 0.9, 0.95, 0.99, 1.0])
def test_the_threshold_lies_just_above_the_last_residual_that_is_to_be_accepted(count: int, accept: float) -> None:
    values = features(count)
    k = min(COMPONENTS, (count - 1) // 3)
    by_hand = sorted(residual_by_hand(values[i], np.delete(values, i, axis=0), k) for i in range(count))
    last = math.ceil(accept * (count - 1))
    fitted = fit(values, accept)
    assert fitted.threshold == pytest.approx(by_hand[last], rel=2e-6)
    accepted = int((fitted.left_out < fitted.threshold).sum())
    assert accepted == last + 1
    assert accepted / count >= accept


def test_at_a_share_of_1_the_farthest_input_is_accepted_too() -> None:
    fitted = fit(features(40), 1.0)
    assert (fitted.left_out < fitted.threshold).all()
    assert fitted.threshold == pytest.approx(fitted.left_out.max(), rel=2e-6)


@pytest.mark.parametrize("accept", [0.501, 0.95, 1, 1.0, np.float32(0.9)])
def test_a_share_above_a_half_and_at_most_1_can_be_asked_for(accept: float) -> None:
    require_share(accept)


@pytest.mark.parametrize("accept", [math.nan, math.inf, 0, 0.5, 1.0001, 2, -0.95, True, "0.95", None, [0.95]])
def test_any_other_share_is_refused_with_what_was_expected(accept: float) -> None:
    with pytest.raises(DataError, match=r"expected a share of new inputs to accept, above 0\.5 and at most 1, got"):
        require_share(accept)


def test_few_inputs_give_few_components() -> None:
    assert fit(features(LEAST), ACCEPT).basis.shape == (20, 2)


def test_what_is_like_the_new_inputs_is_accepted_and_nothing_else_nor_nan() -> None:
    fitted = fit(features(60), ACCEPT)
    assert (fitted.residuals_of(features(200, seed=1)) < fitted.threshold).mean() > 0.8
    other = np.random.default_rng(2).normal(3, 2, (50, 20))
    for others in (other, np.full((1, 20), np.nan), np.full((1, 20), np.inf)):
        assert not (fitted.residuals_of(others) < fitted.threshold).any()


def test_too_few_inputs_are_refused_with_the_number_needed() -> None:
    require_enough(LEAST)
    with pytest.raises(DataError, match=f"on {LEAST} new inputs or more, and the data has {LEAST - 1}"):
        require_enough(LEAST - 1)


def test_inputs_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(DataError, match="all new inputs look the same"):
        fit(np.ones((20, 8)), ACCEPT)
    with pytest.raises(DataError, match="not finite"):
        fit(np.where(np.eye(20, 8) == 1, np.nan, 1.0), ACCEPT)
