"""Patients that are simple enough to know everything about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from phantom import SIZE, VOXEL, WATER, Patient
from scanner import Scan, expected

PLACE = VOXEL * (np.arange(SIZE) - (SIZE - 1) / 2)  # mm, of voxels along y and x
RADIUS = np.hypot(PLACE[:, None], PLACE[None, :])  # mm from the axis


def cylinder(radius: float, slices: int) -> Patient:
    """Water with an uptake of 1."""
    inside = np.broadcast_to(radius > RADIUS, (slices, SIZE, SIZE)).astype(np.float32)
    return Patient(25.0, inside, WATER * inside, {})


def noise_free(patient: Patient, seconds: float) -> Scan:
    """A scan that counted exactly what was expected."""
    trues, attenuation, background = expected(patient)
    return Scan(seconds * (trues + background), attenuation, background, seconds)


def means(patient: Patient, seconds: float) -> NDArray[np.float64]:
    """Returns the expected counts, and drops none: every beam is expected to count something."""
    trues, _, background = expected(patient)
    counts = seconds * (trues.astype(np.float64) + background)
    assert counts.min() > 0
    return counts
