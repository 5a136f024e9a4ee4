"""Counts are Poisson, however they were thinned or dealt out; halves are independent.

Each statistic is near normal, for it sums over more than 10,000 beams, and is scaled to a standard deviation of 1 by its exact
moments under the null hypothesis. It has to lie within ±3.29: level 0.1 %, two-sided. Seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from phantom import SIZE, Patient, torso
from scanner import ANGLES, SENSITIVITY, V2, Scan, acquire, blur, halves, line_integrals, reconstruct, thin
from scipy import stats

from tests.samples.pet.bodies import means

LIMIT = float(stats.norm.isf(0.0005))
REALISATIONS = 12

Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
Deal = Callable[[Scan, Patient, np.random.Generator], Pair]


@pytest.fixture(scope="module")
def patient() -> Patient:
    return torso(np.random.default_rng(5), 24, slices=2)


@pytest.fixture(scope="module")
def scan(patient: Patient) -> Scan:
    return acquire(patient, 600.0, np.random.default_rng(6))


def dispersion(counts: NDArray[np.int64], mean: NDArray[np.float64]) -> float:
    """Pearson's chi-square about known means, standardised: a Poisson count's term has mean 1, variance 2 + 1/mean."""
    mean = np.broadcast_to(mean, counts.shape)
    return float(((counts - mean) ** 2 / mean - 1).sum() / np.sqrt((2 + 1 / mean).sum()))


def excess(counts: NDArray[np.int64], mean: NDArray[np.float64]) -> float:
    """How many counts there are too many, standardised."""
    mean = np.broadcast_to(mean, counts.shape)
    return float((counts - mean).sum() / np.sqrt(mean.sum()))


def dependence(first: NDArray[np.int64], second: NDArray[np.int64], mean: NDArray[np.float64]) -> float:
    """Covariance over beams of standardised residuals, itself standardised: its variance is 1 for each beam if independent."""
    product = (first - mean) * (second - mean) / mean
    return float(product.sum() / np.sqrt(product.size))


def test_counts_of_scans_are_poisson(patient: Patient) -> None:
    rng = np.random.default_rng(1)
    counts = np.stack([acquire(patient, 30.0, rng).counts for _ in range(REALISATIONS)])
    mean = means(patient, 30.0)
    assert abs(dispersion(counts, mean)) < LIMIT
    assert abs(excess(counts, mean)) < LIMIT


def test_counts_are_poisson_without_knowing_their_means(patient: Patient) -> None:
    # The index of dispersion of every beam: sums to a chi-square if the counts are many.
    rng = np.random.default_rng(11)
    counts = np.stack([acquire(patient, 600.0, rng).counts for _ in range(REALISATIONS)]).astype(np.float64)
    many = counts.mean(0) > 20
    assert many.sum() > 5000
    index = ((counts - counts.mean(0)) ** 2).sum(0)[many] / counts.mean(0)[many]
    low, high = stats.chi2.interval(0.999, many.sum() * (REALISATIONS - 1))
    assert low < index.sum() < high


@pytest.mark.parametrize("seconds", [30.0, 180.0])
def test_thinned_counts_are_poisson_of_the_shorter_time(patient: Patient, seconds: float) -> None:
    rng = np.random.default_rng(2)
    thinned = [thin(acquire(patient, 600.0, rng), seconds, rng) for _ in range(REALISATIONS)]
    counts, mean = np.stack([scan.counts for scan in thinned]), means(patient, seconds)
    assert {scan.seconds for scan in thinned} == {seconds}
    assert abs(dispersion(counts, mean)) < LIMIT
    assert abs(excess(counts, mean)) < LIMIT


def test_halves_are_poisson_of_half_the_time(patient: Patient) -> None:
    rng = np.random.default_rng(3)
    pairs = [halves(acquire(patient, 60.0, rng), rng) for _ in range(REALISATIONS)]
    for side in (0, 1):
        counts, mean = np.stack([pair[side].counts for pair in pairs]), means(patient, 30.0)
        assert {pair[side].seconds for pair in pairs} == {30.0}
        assert abs(dispersion(counts, mean)) < LIMIT
        assert abs(excess(counts, mean)) < LIMIT


def test_no_event_is_lost_or_dealt_twice(scan: Scan) -> None:
    first, second = halves(scan, np.random.default_rng(4))
    np.testing.assert_array_equal(first.counts + second.counts, scan.counts)
    assert first.counts.min() >= 0
    assert second.counts.min() >= 0
    assert (thin(scan, 60.0, np.random.default_rng(4)).counts <= scan.counts).all()


def test_both_halves_expect_the_same(scan: Scan, patient: Patient) -> None:
    first, second = halves(scan, np.random.default_rng(5))
    # Given the whole, a half is binomial: their difference has the variance of the whole's counts.
    difference = (first.counts - second.counts).sum() / np.sqrt(scan.counts.sum())
    assert abs(difference) < LIMIT
    assert abs(excess(first.counts + second.counts, means(patient, 600.0))) < LIMIT


def test_halves_are_independent(patient: Patient) -> None:
    assert abs(_dependence_of(lambda scan, _, rng: _counts(halves(scan, rng)), patient)) < LIMIT


def _counts(pair: tuple[Scan, Scan]) -> Pair:
    return pair[0].counts, pair[1].counts


def _dependence_of(deal: Deal, patient: Patient) -> float:
    """Over all realisations: in one scan alone, halves dealt after reconstruction hardly show (2.5)."""
    rng = np.random.default_rng(7)
    pairs = [deal(acquire(patient, 600.0, rng), patient, rng) for _ in range(REALISATIONS)]
    first, second = (np.stack([pair[side] for pair in pairs]) for side in (0, 1))
    assert first.shape == (REALISATIONS, ANGLES * SIZE, 2)
    return dependence(first, second, np.broadcast_to(means(patient, 300.0), first.shape))


def _rounded(scan: Scan, patient: Patient, rng: np.random.Generator) -> Pair:
    """Every second event of a beam, in turn."""
    return scan.counts // 2, scan.counts - scan.counts // 2


def _of_a_fixed_sum(scan: Scan, patient: Patient, rng: np.random.Generator) -> Pair:
    """Deals out a whole that does not vary."""
    whole = np.rint(means(patient, scan.seconds)).astype(np.int64)
    first = rng.binomial(whole, 0.5)
    return first, whole - first


def _after_reconstruction(scan: Scan, patient: Patient, rng: np.random.Generator) -> Pair:
    """Counts the image of the whole twice: the noise in that image is in both."""
    image = blur(reconstruct(scan, V2), V2.fwhm)
    emitted = SENSITIVITY * (line_integrals() @ image.reshape(len(image), -1).T)
    mean = scan.seconds / 2 * (scan.attenuation * emitted + scan.background)
    return rng.poisson(mean), rng.poisson(mean)


@pytest.mark.parametrize("deal", [_rounded, _of_a_fixed_sum, _after_reconstruction])
def test_halves_that_are_not_independent_are_found_out(deal: Deal, patient: Patient) -> None:
    assert abs(_dependence_of(deal, patient)) > LIMIT


def test_thinning_by_rounding_is_found_out(patient: Patient) -> None:
    rng = np.random.default_rng(9)
    counts = np.stack([np.rint(acquire(patient, 600.0, rng).counts * 0.3) for _ in range(3)]).astype(np.int64)
    assert abs(dispersion(counts, means(patient, 180.0))) > 2 * LIMIT
