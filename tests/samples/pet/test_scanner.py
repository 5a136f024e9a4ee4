"""Projections, and what the two versions of the software make of them, against formulas and scikit-image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from phantom import SIZE, VOXEL, WATER, torso
from scanner import (
    ANGLES,
    FWHM,
    SENSITIVITY,
    SUBSETS,
    V1,
    V2,
    Reconstruction,
    Scan,
    _subsets,
    acquire,
    blur,
    line_integrals,
    reconstruct,
)
from scipy import ndimage, stats
from skimage.transform import radon

from tests.samples.pet.bodies import RADIUS, cylinder, noise_free

# Angles in the order of the rows: subset by subset.
DEGREES = (np.arange(ANGLES).reshape(-1, SUBSETS).T * 180 / ANGLES).reshape(-1)
DIAGONAL = np.isin(DEGREES, (45, 135))


def smooth_disc(centre: float) -> NDArray[np.float64]:
    """A disc of 30 voxels' radius with a soft edge, off the middle; the middle is at the voxel `centre`."""
    place = np.arange(SIZE) - centre
    radius = np.hypot(place[:, None] - 7, place[None, :] + 12)
    return np.where(radius < 45, 1 / (1 + np.exp((radius - 30) / 1.5)), 0)


def test_line_integrals_agree_with_scikit_image() -> None:
    ours = (line_integrals() @ smooth_disc((SIZE - 1) / 2).reshape(-1)).reshape(ANGLES, SIZE)
    # Theirs turn about voxel SIZE // 2, the other way round.
    theirs = radon(smooth_disc(SIZE // 2), theta=-DEGREES, circle=True).T
    beams = np.arange(SIZE) - (SIZE - 1) / 2
    theirs = np.stack([np.interp(beams, np.arange(SIZE) - SIZE // 2, profile) for profile in theirs])
    error = np.abs(ours - theirs).max(axis=1) / theirs.max()
    assert error[~DIAGONAL].max() < 0.02
    # Along the diagonals voxels are 1/sqrt(2) of a beam apart, and sharing them between two beams leaves a ripple of
    # 2 sinc^2(sqrt(2)) = 9.5 %: a weakness of this projector.
    assert error[DIAGONAL].max() < 0.12
    assert np.sqrt(np.mean((ours - theirs) ** 2)) / theirs.max() < 0.01


def test_every_angle_sees_all_of_the_activity() -> None:
    image = smooth_disc((SIZE - 1) / 2)
    sums = (line_integrals() @ image.reshape(-1)).reshape(ANGLES, SIZE).sum(axis=1)
    np.testing.assert_allclose(sums, image.sum(), rtol=1e-5)


def test_back_projection_is_the_adjoint_of_projection() -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal(SIZE * SIZE)
    rows = []
    for forward, backward in _subsets():
        beams = rng.standard_normal(forward.shape[0])
        projected = forward @ image
        scale = np.linalg.norm(projected) * np.linalg.norm(beams)
        assert abs(projected @ beams - image @ (backward @ beams)) < 1e-12 * scale
        rows.append(projected)
    # The subsets are all of the beams.
    np.testing.assert_allclose(np.concatenate(rows), line_integrals() @ image, atol=1e-9)


@pytest.mark.parametrize("fwhm", [V1.fwhm, V2.fwhm])
def test_blur_is_its_own_adjoint_and_has_its_width(fwhm: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 7, 20, 24)).astype(np.float32)
    left, right = (
        np.vdot(a.astype(np.float64), b) for a, b in ((blur(first, fwhm), second), (first, blur(second, fwhm)))
    )
    assert abs(left - right) < 1e-5 * np.linalg.norm(first) * np.linalg.norm(second)
    # The second moment of a point, 41 voxels each way so that nothing leaves.
    point = np.zeros((41, 41, 41), np.float32)
    point[20, 20, 20] = 1
    spread = blur(point, fwhm).astype(np.float64)
    for axis, width in enumerate(fwhm):
        profile = spread.sum(axis=tuple(other for other in range(3) if other != axis))
        variance = (profile * (np.arange(41) - 20.0) ** 2).sum() / profile.sum()
        # Cut at four standard deviations, and sampled: the narrowest, 0.3 voxels, is no smooth Gaussian any more.
        if width > 4:
            assert np.sqrt(8 * np.log(2) * variance) * VOXEL == pytest.approx(width, rel=0.02)


def width_at_half(profile: NDArray[np.float64]) -> float:
    """Full width at half maximum in mm, by linear interpolation."""
    top = int(profile.argmax())
    half = profile[top] / 2
    left = top - int(np.argmax(profile[top::-1] < half))
    right = top + int(np.argmax(profile[top:] < half))
    low = left + (half - profile[left]) / (profile[left + 1] - profile[left])
    high = right - (half - profile[right]) / (profile[right - 1] - profile[right])
    return VOXEL * (high - low)


def point_spread(version: Reconstruction) -> tuple[float, float]:
    """Widths along y and x of a voxel with an uptake of 3 in a warm cylinder of 28 cm, free of noise."""
    warm = cylinder(140, 5)
    activity = warm.activity.copy()
    activity[2, SIZE // 2, SIZE // 2] += 2
    images = [reconstruct(noise_free(body, 600.0), version)[2] for body in (replace(warm, activity=activity), warm)]
    spread = (images[0] - images[1]).astype(np.float64)
    assert np.unravel_index(spread.argmax(), spread.shape) == (SIZE // 2, SIZE // 2)
    return width_at_half(spread[:, SIZE // 2]), width_at_half(spread[SIZE // 2])


def test_version_2_is_isotropic_and_version_1_elongated_along_y() -> None:
    (y1, x1), (y2, x2) = point_spread(V1), point_spread(V2)
    # A few iterations recover no more than the detectors see (6.5 mm), and do not spoil it by more than a factor of two.
    assert FWHM < y2 < 2 * FWHM
    assert y2 == pytest.approx(x2, rel=0.02)
    # Blurs add in quadrature: version 1 is wider than version 2 along y by what it believes beyond the truth, and narrower
    # along x by what it leaves out.
    assert y1 == pytest.approx(np.sqrt(y2**2 + 11.0**2 - FWHM**2), rel=0.05)
    assert x1 == pytest.approx(np.sqrt(x2**2 + 3.0**2 - FWHM**2), rel=0.05)
    assert y1 > 1.25 * x1


def analytic_scan(radius: float, seconds: float) -> Scan:
    """Expected counts of a cylinder of water, by the chord of a circle and nothing of the projector."""
    fine = (np.arange(16 * SIZE) + 0.5) / 16 - SIZE / 2  # in voxels, from the middle
    chord = 2 * np.sqrt(np.clip((radius / VOXEL) ** 2 - fine**2, 0, None))
    emitted = ndimage.gaussian_filter1d(chord, 16 * FWHM / VOXEL / np.sqrt(8 * np.log(2)))
    emitted, length = (values.reshape(SIZE, 16).mean(axis=1) for values in (emitted, chord))
    attenuation = np.exp(-WATER * VOXEL * length)
    beams = [
        np.tile(values, ANGLES)[:, None].astype(np.float32)
        for values in (SENSITIVITY * attenuation * emitted, attenuation)
    ]
    return Scan(seconds * beams[0], beams[1], np.full_like(beams[0], 1e-6), seconds)


def repeated(scan: Scan, slices: int) -> Scan:
    return Scan(
        *(np.repeat(part, slices, axis=1) for part in (scan.counts, scan.attenuation, scan.background)), scan.seconds
    )


@pytest.mark.parametrize(("version", "edge"), [(V1, 30.0), (V2, 20.0)])
def test_a_cylinder_has_its_uptake_inside(version: Reconstruction, edge: float) -> None:
    # Nearer to the edge than this version 1, which takes the blur for wider than it is along y, is wrong by 8 % and more.
    image = reconstruct(noise_free(cylinder(120, 5), 600.0), version)[2]
    inside = edge + RADIUS < 120
    assert image[inside].mean() == pytest.approx(1, abs=0.005)
    assert np.abs(image[inside] - 1).max() < 0.01


def test_a_cylinder_by_formula_has_its_uptake() -> None:
    # 15 slices, of which the middle one is so far from the ends that the blur along the axis misses nothing.
    image = reconstruct(repeated(analytic_scan(120, 600.0), 15), V2)[7]
    inside = RADIUS < 100
    assert image[inside].mean() == pytest.approx(1, abs=0.01)
    assert np.sqrt(np.mean((image[inside] - 1) ** 2)) < 0.03


@pytest.mark.parametrize("version", [V1, V2])
def test_every_iteration_raises_the_likelihood(version: Reconstruction) -> None:
    scan = acquire(torso(np.random.default_rng(2), 28, slices=2), 60.0, np.random.default_rng(3))
    said: list[float] = []
    reconstruct(scan, version, likelihoods=said)
    found = []
    for iterations in range(version.iterations + 1):
        image = reconstruct(scan, replace(version, iterations=iterations))
        sigma = [width / VOXEL / np.sqrt(8 * np.log(2)) for width in version.fwhm]
        blurred = ndimage.gaussian_filter(image.astype(np.float64), sigma, mode="constant")
        emitted = SENSITIVITY * (line_integrals().astype(np.float64) @ blurred.reshape(2, -1).T)
        found.append(
            stats.poisson.logpmf(scan.counts, scan.seconds * (scan.attenuation * emitted + scan.background)).sum()
        )
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(np.diff(said), np.diff(found), rtol=1e-3)
