"""The numbers of a detector, from features of new inputs alone.

PCA of the features, with k components; of every input the residual that a detector fitted on the others gives it (leave one
out); the threshold is the `QUANTILE` of these residuals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError
from tgdonnx.gated_model.detector import Detector

Floats = NDArray[np.floating]
COMPONENTS = 10
QUANTILE = 0.95
LEAST = 8
"""Inputs that a detector needs: fewer say too little of how new inputs differ."""


@dataclass(frozen=True)
class Fitted:
    """Numbers of a detector, and what it says of the inputs that it was fitted on.

    Attributes:
        mean: float64 of shape (F,).
        basis: float64 of shape (F, k), orthonormal columns.
        threshold: of the residual, > 0.
        left_out: the residual of each input by the detector of the others, (N,).
    """

    mean: NDArray[np.float64] = field(repr=False)
    basis: NDArray[np.float64] = field(repr=False)
    threshold: float
    left_out: NDArray[np.float64] = field(repr=False)

    def detector(self, layer: str, value: str, floor: float) -> Detector:
        """Returns the detector in front of a layer."""
        return Detector(
            layer,
            value,
            len(self.left_out),
            self.mean.astype(np.float32),
            self.basis.astype(np.float32),
            float(np.float32(self.threshold)),
            floor,
        )

    def accepts(self, features: Floats) -> NDArray[np.bool_]:
        """Returns which inputs are new, by their features (N, F)."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(residuals(features, self.mean, self.basis) < self.threshold)


def require_enough(images: int) -> None:
    """Checks that there are enough inputs to fit a detector on.

    Raises:
        DataError: there are not.
    """
    if images < LEAST:
        raise DataError(
            f"a detector is fitted on {LEAST} new inputs or more, and the data has {images}",
            remedy=f"give {LEAST} or more, 20 or more if there are",
        )


def fit(features: Floats) -> Fitted:
    """Fits a detector.

    Args:
        features: of new inputs, (N, F), finite, N >= `LEAST`.

    Raises:
        DataError: the features are not finite, or all the same.
    """
    values = features.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            "the features of the new inputs are not finite", remedy="look at the data, or choose another layer"
        )
    # Of few inputs, components would explain everything, and what is left out nothing.
    count = min(COMPONENTS, (len(values) - 1) // 3, values.shape[1] - 1)
    left_out = np.array(
        [residuals(values[i : i + 1], *_principal(np.delete(values, i, axis=0), count))[0] for i in range(len(values))]
    )
    threshold = float(np.quantile(left_out, QUANTILE, method="higher"))
    mean, basis = _principal(values, count)
    if not threshold > np.finfo(np.float32).tiny:
        raise DataError(
            "all new inputs look the same to the detector", remedy="give different ones, or choose another layer"
        )
    # r < t, and what is as far as the farthest of 95 % is new as well
    return Fitted(mean, basis, math.nextafter(threshold, math.inf) * (1 + 1e-6), left_out)


def residuals(features: Floats, mean: Floats, basis: Floats) -> NDArray[np.float64]:
    """Returns |(I - B B')(f - mu)|^2 of each row of features."""
    centred = features.astype(np.float64) - mean
    left = centred - (centred @ basis) @ basis.T
    return np.asarray((left**2).sum(axis=1))


def _principal(values: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = values.mean(axis=0)
    _, _, rows = np.linalg.svd(values - mean, full_matrices=False)
    return mean, rows[:count].T
