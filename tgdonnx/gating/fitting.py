"""The numbers of a detector, from features of new inputs alone.

PCA of the features, with k components; of every input the residual that a detector fitted on the others gives it (leave one
out); the threshold is a quantile of these residuals, so that the share of the inputs that was asked for lies below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError
from tgdonnx.gated_model.detector import Detector
from tgdonnx.presenting import short

Floats = NDArray[np.floating]
COMPONENTS = 10
ACCEPT = 0.95
"""The share of new inputs that a detector accepts, where no other is asked for."""
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

    def residuals_of(self, features: Floats) -> NDArray[np.float64]:
        """Returns the residuals of other inputs, (N,), by their features (N, F): those below the threshold are new."""
        with np.errstate(invalid="ignore", over="ignore"):
            return residuals(features, self.mean, self.basis)


def require_share(accept: float) -> None:
    """Checks a share of new inputs that is to be accepted.

    Raises:
        DataError: it is no number above 0.5 and at most 1.
    """
    is_number = isinstance(accept, (float, int, np.floating, np.integer)) and not isinstance(accept, bool)
    if not (is_number and 0.5 < accept <= 1):
        raise DataError(
            f"expected a share of new inputs to accept, above 0.5 and at most 1, got {short(accept)}",
            remedy="for 99 of 100, give 0.99",
        )


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


def fit(features: Floats, accept: float) -> Fitted:
    """Fits a detector.

    Args:
        features: of new inputs, (N, F), finite, N >= `LEAST`.
        accept: the least share of them whose residual, by a detector of the others, is below the threshold; above 0.5, at
            most 1.

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
    threshold = float(np.quantile(left_out, accept, method="higher"))
    mean, basis = _principal(values, count)
    if not threshold > np.finfo(np.float32).tiny:
        raise DataError(
            "all new inputs look the same to the detector", remedy="give different ones, or choose another layer"
        )
    # r < t, and what is as far as the farthest of those that are accepted is new as well
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
