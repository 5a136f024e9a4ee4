"""The numbers of a detector, against PCA by the eigenvectors of the covariance."""

from __future__ import annotations

import numpy as np
import pytest

from tgdonnx.errors import DataError
from tgdonnx.gated_model.places import Place
from tgdonnx.gating.features import Moments
from tgdonnx.gating.fitting import COMPONENTS, LEAST, fit, require_enough
from tgdonnx.gating.separation import Separation, first_that_separates, judge


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
    fitted = fit(values)
    for i in (0, 17, 39):
        expected = residual_by_hand(values[i], np.delete(values, i, axis=0), COMPONENTS)
        assert fitted.left_out[i] == pytest.approx(expected, rel=1e-9)
    assert fitted.basis.shape == (20, COMPONENTS)
    np.testing.assert_allclose(fitted.basis.T @ fitted.basis, np.eye(COMPONENTS), atol=1e-12)
    assert (fitted.left_out < fitted.threshold).sum() == 39  # 95 % and the one at the quantile


def test_few_inputs_give_few_components() -> None:
    assert fit(features(LEAST)).basis.shape == (20, 2)


def test_what_is_like_the_new_inputs_is_accepted_and_nothing_else_nor_nan() -> None:
    fitted = fit(features(60))
    assert fitted.accepts(features(200, seed=1)).mean() > 0.8
    other = np.random.default_rng(2).normal(3, 2, (50, 20))
    assert not fitted.accepts(other).any()
    assert not fitted.accepts(np.full((1, 20), np.nan)).any()
    assert not fitted.accepts(np.full((1, 20), np.inf)).any()


def test_too_few_inputs_are_refused_with_the_number_needed() -> None:
    require_enough(LEAST)
    with pytest.raises(DataError, match=f"on {LEAST} new inputs or more, and the data has {LEAST - 1}"):
        require_enough(LEAST - 1)


def test_inputs_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(DataError, match="all new inputs look the same"):
        fit(np.ones((20, 8)))
    with pytest.raises(DataError, match="not finite"):
        fit(np.where(np.eye(20, 8) == 1, np.nan, 1.0))


def moments(count: int, seed: int, scale: float = 1.0) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments(rng.normal(0, scale, (count, 8)), rng.uniform(1, 2, (count, 8)) * scale)


def test_the_earliest_layer_that_separates_is_taken() -> None:
    blind, seeing = Place("conv1", "x", 8), Place("conv2", "h", 8)
    new = {blind: moments(40, 0), seeing: moments(40, 1)}
    held_out = {place: Moments(each.means[:20], each.variances[:20]) for place, each in new.items()}
    old = {blind: moments(20, 4), seeing: moments(20, 5, scale=30)}
    assert first_that_separates((blind, seeing), new, held_out, old).place == seeing
    assert first_that_separates((blind, seeing), new, held_out, None).place == blind
    with pytest.raises(
        DataError, match=r"in front of 'conv1'.* of the old inputs go to the right side, and 90% are needed"
    ):
        first_that_separates((blind,), new, held_out, old)


def test_of_five_inputs_one_may_fail_and_of_four_none() -> None:
    place, new = Place("conv1", "x", 8), moments(40, 0)
    far = moments(1, 1, scale=30)

    def mixed(count: int) -> Moments:
        means = np.concatenate([new.means[: count - 1], far.means])
        return Moments(means, np.concatenate([new.variances[: count - 1], far.variances]))

    for count, is_enough in ((5, True), (4, False)):
        found = judge(place, new, mixed(count), None)
        assert found.separation.held_out == 1 - 1 / count
        assert found.is_enough is is_enough


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.9, "90%"), (0.904, "90%"), (0.896, "89.6%"), (0.8999, "89.99%"), (0.997, "99.7%"), (1.0, "100%")],
)
def test_a_share_that_is_not_enough_never_looks_like_what_is_needed(share: float, told: str) -> None:
    assert str(Separation(share, None, 0.5)) == f"{told} of the new inputs, 50% of the old inputs"
