"""A scanner: what it counts of a patient, and images made of the counts.

Slices are scanned one by one with parallel beams. The expected prompts of a beam are

    t * (a * P (B x) + b)

with x the activity, B the blur of the detectors (Gaussian, 6.5 mm full width at half maximum), P line integrals, a the
attenuation along the beam, b randoms and scatter (smooth, known), and t the time. Counts are Poisson. Shorter scans are
thinned from longer ones event by event, as list-mode data are.

Images come from OSEM (Hudson and Larkin 1994) with the blur in the model. Version 2 models it as it is. Version 1 takes the
detectors' blur for a wide one along y and a narrow one along x: structures come out elongated along y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from phantom import SIZE, VOXEL, Patient, Volume
from scipy import ndimage, sparse

ANGLES, SUBSETS = 96, 12
FWHM = 6.5  # mm: what the detectors do, in the plane and along the axis
SENSITIVITY = 2.6e-2  # counts per second, per unit of uptake in a voxel, without attenuation

Counts = NDArray[np.int64]
_SIGMA = 1 / np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class Reconstruction:
    """A version of the scanner's software.

    Attributes:
        name: of the version.
        fwhm: of the blur that it believes in: along z, y and x, in mm.
        iterations: over all subsets.
    """

    name: str
    fwhm: tuple[float, float, float]
    iterations: int


V1 = Reconstruction("v1", (FWHM, 11.0, 3.0), 3)
V2 = Reconstruction("v2", (FWHM, FWHM, FWHM), 4)


@dataclass(frozen=True)
class Scan:
    """Counts of a patient, and what the software knows besides.

    Attributes:
        counts: prompts, int64 of shape (beams, slices).
        attenuation: of every beam, float32 in (0, 1].
        background: expected randoms and scatter per second.
        seconds: how long it was counted.
    """

    counts: Counts
    attenuation: NDArray[np.float32]
    background: NDArray[np.float32]
    seconds: float


@lru_cache(maxsize=1)
def line_integrals() -> sparse.csr_matrix:
    """P: for every beam (angle by angle, subset by subset) the length of it in every pixel, in voxels.

    Driven by pixels: each is shared by the two beams next to its centre, and counts for all that passes it.
    """
    angles = np.arange(ANGLES).reshape(-1, SUBSETS).T.reshape(-1) * np.pi / ANGLES
    y, x = (np.arange(SIZE) - (SIZE - 1) / 2 for _ in range(2))
    inside = (y[:, None] ** 2 + x[None, :] ** 2 < (SIZE / 2 - 1) ** 2).reshape(-1)
    pixels = np.flatnonzero(inside)
    rows, columns, values = [], [], []
    for index, angle in enumerate(angles):
        place = (x[None, :] * np.cos(angle) + y[:, None] * np.sin(angle)).reshape(-1)[pixels] + (SIZE - 1) / 2
        low = np.floor(place).astype(np.int64)
        for beam, share in ((low, low + 1 - place), (low + 1, place - low)):
            rows.append(index * SIZE + beam)
            columns.append(pixels)
            values.append(share)
    shape = (ANGLES * SIZE, SIZE * SIZE)
    matrix = sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape)
    return matrix.astype(np.float32)


@lru_cache(maxsize=1)
def _subsets() -> tuple[tuple[sparse.csr_matrix, sparse.csr_matrix], ...]:
    """For every subset its beams, and the same transposed."""
    matrix, beams = line_integrals(), ANGLES // SUBSETS * SIZE
    parts = [matrix[i * beams : (i + 1) * beams] for i in range(SUBSETS)]
    return tuple((part, part.T.tocsr()) for part in parts)


def blur(volume: Volume, fwhm: tuple[float, float, float]) -> Volume:
    """Gaussian blur; its own transpose."""
    sigma = [_SIGMA * width / VOXEL for width in fwhm]
    return ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=4)


def expected(patient: Patient) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Returns the expected trues per second, attenuation and background per second, of shape (beams, slices)."""
    slices = len(patient.activity)
    flat = lambda volume: np.ascontiguousarray(volume.reshape(slices, -1).T)  # noqa: E731
    attenuation = np.exp(-VOXEL * (line_integrals() @ flat(patient.attenuation)))
    emitted = SENSITIVITY * (line_integrals() @ flat(blur(patient.activity, (FWHM,) * 3)))
    trues = attenuation * emitted
    sinogram = trues.reshape(ANGLES, SIZE, slices)
    scatter = ndimage.gaussian_filter(sinogram, (0, 100 / VOXEL, 0), mode="nearest").reshape(trues.shape)
    # More of both in larger bodies.
    background = 0.012 * patient.bmi * scatter + 0.006 * patient.bmi * trues.mean(0, keepdims=True)
    return trues, attenuation, background.astype(np.float32)


def acquire(patient: Patient, seconds: float, rng: np.random.Generator) -> Scan:
    """Scans a patient."""
    trues, attenuation, background = expected(patient)
    return Scan(rng.poisson(seconds * (trues + background)), attenuation, background, seconds)


def thin(scan: Scan, seconds: float, rng: np.random.Generator) -> Scan:
    """Keeps every event with the probability seconds / scan.seconds."""
    counts = rng.binomial(scan.counts, seconds / scan.seconds)
    return Scan(counts, scan.attenuation, scan.background, seconds)


def halves(scan: Scan, rng: np.random.Generator) -> tuple[Scan, Scan]:
    """Deals the events out to two scans of half the time, independent of each other."""
    first = rng.binomial(scan.counts, 0.5)
    return tuple(  # type: ignore[return-value]
        Scan(counts, scan.attenuation, scan.background, scan.seconds / 2) for counts in (first, scan.counts - first)
    )


def reconstruct(scan: Scan, version: Reconstruction, *, likelihoods: list[float] | None = None) -> Volume:
    """Returns the image by OSEM, in units of uptake, of shape (slices, y, x).

    Args:
        scan: the counts.
        version: of the software.
        likelihoods: takes the Poisson log likelihood (but for a constant) before each iteration, and after the last.
    """
    slices, beams = scan.counts.shape[1], ANGLES // SUBSETS * SIZE
    factor = SENSITIVITY * scan.seconds
    image = np.ones((slices, SIZE, SIZE), np.float32)
    to_pixels = lambda volume: np.ascontiguousarray(volume.reshape(slices, -1).T)  # noqa: E731
    to_volume = lambda pixels: np.ascontiguousarray(pixels.T).reshape(slices, SIZE, SIZE)  # noqa: E731
    parts = []
    for index, (forward, backward) in enumerate(_subsets()):
        rows = slice(index * beams, (index + 1) * beams)
        weight = factor * scan.attenuation[rows]
        norm = blur(to_volume(backward @ weight), version.fwhm)
        counts = scan.counts[rows].astype(np.float32)
        parts.append(
            (
                forward,
                backward,
                weight,
                np.maximum(norm, norm.max() * 1e-6),
                counts,
                scan.seconds * scan.background[rows],
            )
        )
    for _ in range(version.iterations):
        if likelihoods is not None:
            likelihoods.append(_log_likelihood(image, scan, version))
        for forward, backward, weight, norm, counts, background in parts:
            mean = weight * (forward @ to_pixels(blur(image, version.fwhm))) + background
            ratio = counts / np.maximum(mean, 1e-12)
            image = image * blur(to_volume(backward @ (weight * ratio)), version.fwhm) / norm
    if likelihoods is not None:
        likelihoods.append(_log_likelihood(image, scan, version))
    return image


def _log_likelihood(image: Volume, scan: Scan, version: Reconstruction) -> float:
    flat = np.ascontiguousarray(blur(image, version.fwhm).reshape(len(image), -1).T)
    mean = scan.seconds * (SENSITIVITY * scan.attenuation * (line_integrals() @ flat) + scan.background)
    mean = np.maximum(mean, 1e-12).astype(np.float64)
    return float((scan.counts * np.log(mean) - mean).sum())
