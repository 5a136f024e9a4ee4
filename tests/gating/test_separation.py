"""How a detector tells inputs apart, and where it looks for it."""

from __future__ import annotations

import numpy as np
import pytest

from tgdonnx.errors import DataError
from tgdonnx.gated_model.places import Place
from tgdonnx.gating.features import Moments
from tgdonnx.gating.fitting import ACCEPT, fit
from tgdonnx.gating.separation import ENOUGH, Separation, first_that_separates, judge

CONV1, CONV2 = Place("conv1", "x", 8), Place("conv2", "h", 8)


def moments(count: int, seed: int, scale: float = 1.0) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments(rng.normal(0, scale, (count, 8)), rng.uniform(1, 2, (count, 8)) * scale)


def joined(*parts: Moments) -> Moments:
    return Moments(np.concatenate([p.means for p in parts]), np.concatenate([p.variances for p in parts]))


def first(each: Moments, count: int) -> Moments:
    return Moments(each.means[:count], each.variances[:count])


def test_the_earliest_layer_that_separates_is_taken() -> None:
    new = {CONV1: moments(40, 0), CONV2: moments(40, 1)}
    held_out = {place: first(each, 20) for place, each in new.items()}
    old = {CONV1: moments(20, 4), CONV2: moments(20, 5, scale=30)}
    assert first_that_separates((CONV1, CONV2), new, held_out, old, ACCEPT).place == CONV2
    assert first_that_separates((CONV1, CONV2), new, held_out, None, ACCEPT).place == CONV1
    with pytest.raises(
        DataError, match=r"in front of 'conv1'.* of the old inputs go to the right side, and 90% are needed"
    ):
        first_that_separates((CONV1,), new, held_out, old, ACCEPT)


def test_of_five_inputs_one_may_fail_and_of_four_none() -> None:
    new, far = moments(40, 0), moments(1, 1, scale=30)
    for count, is_enough in ((5, True), (4, False)):
        found = judge(CONV1, new, joined(first(new, count - 1), far), None, ACCEPT)
        assert found.separation.held_out == 1 - 1 / count
        assert found.is_enough is is_enough


@pytest.mark.parametrize(("accept", "missed"), [(ACCEPT, 4), (1.0, 4), (0.8, 10), (0.6, 18)])
def test_exactly_what_is_needed_is_enough_and_one_less_is_not(accept: float, missed: int) -> None:
    new = moments(40, 0)
    fitted = judge(CONV1, new, None, None, accept)
    residuals = fit(new.features(new.floor()), accept).residuals_of(new.features(new.floor()))
    inside = int(np.argmin(residuals))
    assert residuals[inside] < fitted.detector.threshold
    near = Moments(new.means[[inside]], new.variances[[inside]])
    far = moments(1, 1, scale=30)
    for more, is_enough in ((0, True), (1, False)):
        out = missed + more
        found = judge(CONV1, new, joined(*[near] * (40 - out), *[far] * out), None, accept)
        assert found.separation.held_out == (40 - out) / 40
        assert found.is_enough is is_enough


@pytest.mark.parametrize("accept", [0.6, 0.95, 1.0])
def test_shares_and_distances_are_those_of_the_residuals(accept: float) -> None:
    new, held_out, old = moments(40, 0), moments(30, 1), moments(20, 2, scale=1.5)
    found = judge(CONV1, new, held_out, old, accept)
    values, others, olds = (
        np.hstack([each.means, np.log(each.variances + 1e-4 * new.variances.mean())]) for each in (new, held_out, old)
    )
    left_out = np.array([residual(values[i], np.delete(values, i, axis=0)) for i in range(40)])
    last = np.sort(left_out)[int(np.ceil(accept * 39))]
    far = np.array([residual(each, values) for each in olds])
    shares = found.separation
    assert shares.accept == accept
    assert shares.new == (left_out <= last).mean() >= accept
    assert shares.held_out == np.mean([residual(each, values) <= last for each in others])
    assert shares.retain == (far > last).mean()
    assert shares.farthest_new == pytest.approx(left_out.max() / last, rel=1e-5)
    assert shares.nearest_old == pytest.approx(far.min() / last, rel=1e-5)
    assert found.detector.threshold == pytest.approx(last, rel=1e-5)


def residual(value: np.ndarray, others: np.ndarray) -> float:
    """By the eigenvectors of the covariance."""
    mean = others.mean(axis=0)
    main = np.linalg.eigh(np.cov((others - mean).T))[1][:, -10:]
    centred = value - mean
    return float(centred @ centred - ((centred @ main) ** 2).sum())


def test_old_inputs_that_are_nan_go_to_the_vendors_side_and_are_not_the_nearest() -> None:
    nothing = Moments(np.full((2, 8), np.nan), np.full((2, 8), np.nan))
    far = moments(3, 1, scale=30)
    mixed = judge(CONV1, moments(40, 0), None, joined(nothing, far), ACCEPT).separation
    assert mixed.retain == 1
    assert mixed.nearest_old == judge(CONV1, moments(40, 0), None, far, ACCEPT).separation.nearest_old
    assert judge(CONV1, moments(40, 0), None, nothing, ACCEPT).separation.nearest_old is None


def test_a_larger_share_lets_more_inputs_of_either_kind_through() -> None:
    new, held_out, old = moments(40, 0), moments(200, 1), moments(200, 2, scale=1.3)
    found = [judge(CONV1, new, held_out, old, accept).separation for accept in (0.6, 0.8, 0.95, 1.0)]
    for less, more in zip(found, found[1:]):
        assert (less.held_out or 0) < (more.held_out or 0)
        assert (less.retain or 0) > (more.retain or 0)


def test_of_fewer_that_are_asked_for_fewer_are_enough_and_of_more_no_more() -> None:
    needed = {accept: Separation(1, None, None, accept, 1, None).needed for accept in (0.6, 0.8, ACCEPT, 0.99, 1.0)}
    assert needed == {0.6: 0.55, 0.8: 0.75, ACCEPT: 0.9, 0.99: 0.9, 1.0: 0.9}
    new = moments(40, 0)
    share = float(
        (fit(new.features(new.floor()), 0.6).left_out < judge(CONV1, new, None, None, 0.6).detector.threshold).mean()
    )
    assert 0.6 <= share < ENOUGH
    assert judge(CONV1, new, None, None, 0.6).is_enough


def test_who_is_refused_for_held_out_inputs_is_told_of_a_larger_share_and_for_old_ones_not() -> None:
    new, near = {CONV1: moments(40, 0)}, {CONV1: moments(40, 0, scale=1.01)}
    far = {CONV1: moments(20, 1, scale=30)}
    with pytest.raises(DataError) as of_new:
        first_that_separates((CONV1,), new, far, far, 0.8)
    assert "and 75% of the new and 90% of the old are needed; give a larger `accept`, more" in str(of_new.value)
    for held_out, old, accept in ((None, near, 0.8), (far, far, 1.0)):
        with pytest.raises(DataError) as of_old:
            first_that_separates((CONV1,), new, held_out, old, accept)
        assert "are needed; give more new inputs" in str(of_old.value)


@pytest.mark.parametrize(
    ("share", "told"),
    [
        (0.9, "90%"),
        (0.904, "90%"),
        (0.896, "89.6%"),
        (0.8999, "89.99%"),
        (0.946, "94.6%"),
        (0.997, "99.7%"),
        (1.0, "100%"),
    ],
)
def test_a_share_that_is_not_enough_never_looks_like_what_is_needed(share: float, told: str) -> None:
    text = str(Separation(share, None, 0.5, ACCEPT, 1.0, None))
    assert text == f"{told} of the new inputs (95% asked for), 50% of the old inputs"


def test_a_share_below_what_was_asked_for_never_looks_like_it() -> None:
    text = str(Separation(0.991, 0.9896, None, 0.99, 1.0, None))
    assert text == "99% of the new inputs (99% asked for), 98.96% of the held-out new inputs"
