"""Studies: patients, scanned and reconstructed, as the networks see them.

A network reads three neighbouring slices and gives back the noise of all three. Which patient a study is follows from its
name alone: the cohort and a number.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from phantom import Patient, Volume, torso
from scanner import V1, V2, Reconstruction, acquire, reconstruct, thin

TARGET = 600.0  # seconds per bed
DURATIONS = (30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
STACK = 3  # slices that a network sees at once

# The range of the body-mass index, and how many studies there are.
COHORTS = {
    "v1-train": (V1, (19.0, 38.0), 20),
    "v2-train": (V2, (19.0, 38.0), 20),
    "low-bmi": (V2, (19.0, 23.0), 7),
    "v1-validation": (V1, (19.0, 38.0), 3),
    "v2-validation": (V2, (19.0, 38.0), 3),
    "v1-test": (V1, (19.0, 38.0), 8),
    "v2-test-low": (V2, (19.0, 23.0), 8),
    "v2-test-high": (V2, (32.0, 38.0), 8),
}


@dataclass(frozen=True)
class Study:
    """One patient's images by one version of the software.

    Attributes:
        name: of the study.
        patient: the truth.
        target: image of the long scan.
        inputs: images of short scans, thinned from it, by their duration in seconds.
    """

    name: str
    patient: Patient
    target: Volume = field(repr=False)
    inputs: dict[float, Volume] = field(repr=False)


def patient_of(cohort: str, number: int) -> Patient:
    """Returns a patient; the body-mass index runs through the cohort's range."""
    _, (low, high), count = COHORTS[cohort]
    bmi = low + (high - low) * (number + 0.5) / count
    return torso(np.random.default_rng([zlib.crc32(cohort.encode()), number, 0]), bmi)


def make_study(cohort: str, number: int, durations: Sequence[float] = DURATIONS) -> Study:
    """Scans and reconstructs a patient of a cohort."""
    version, patient = COHORTS[cohort][0], patient_of(cohort, number)
    return scan_patient(f"{cohort}-{number}", patient, version, durations, [zlib.crc32(cohort.encode()), number, 1])


def scan_patient(
    name: str, patient: Patient, version: Reconstruction, durations: Sequence[float], seed: Sequence[int]
) -> Study:
    """Scans a patient for `TARGET` seconds, and thins the events to every shorter duration."""
    rng = np.random.default_rng(list(seed))
    full = acquire(patient, TARGET, rng)
    inputs = {seconds: reconstruct(thin(full, seconds, rng), version) for seconds in durations}
    return Study(name, patient, reconstruct(full, version), inputs)


def cohort(name: str, *, durations: Sequence[float] = DURATIONS, workers: int = 2) -> list[Study]:
    """Returns all studies of a cohort."""
    count = COHORTS[name][2]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(make_study, [name] * count, range(count), [durations] * count))


def stacks(volume: Volume) -> Volume:
    """Returns every three neighbouring slices, of shape (slices - 2, 3, y, x)."""
    return np.stack([volume[i : len(volume) - STACK + 1 + i] for i in range(STACK)], axis=1)


def pairs(studies: Iterable[Study]) -> tuple[Volume, Volume]:
    """Returns inputs and targets of all studies and durations, as stacks."""
    inputs, targets = [], []
    for study in studies:
        for image in study.inputs.values():
            inputs.append(stacks(image))
            targets.append(stacks(study.target))
    return np.concatenate(inputs), np.concatenate(targets)


def psnr(image: NDArray[np.float32], truth: NDArray[np.float32], peak: float = 5.0) -> float:
    """Peak signal-to-noise ratio in dB; the peak is an uptake of 5, about that of a hot organ."""
    return float(10 * np.log10(peak**2 / np.mean((image - truth) ** 2, dtype=np.float64)))
