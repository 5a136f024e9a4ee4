"""Which blend to take, from losses over samples.

Without a limit: the smallest whose loss is within one standard error of the lowest (the rule of Breiman et al., 1984, for
trees). Of two blends the losses of the same samples are compared, so the error is that of their differences: how much images
differ among themselves says nothing about which blend is better, and would hide it. With a limit on the vendor's own task: the
lowest loss within it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError
from tgdonnx.finetuning.metrics import worsening
from tgdonnx.finetuning.reports import BlendPoint

Floats = NDArray[np.float64]


def above_lowest(losses: Floats) -> tuple[Floats, Floats]:
    """Returns how far the mean loss of every blend is above the lowest, and the standard error of that.

    Args:
        losses: (blends, samples), finite.

    Returns:
        Both of shape (blends,); the errors are 0 for the lowest, and for all if there is one sample.
    """
    differences = losses - losses[np.argmin(losses.mean(axis=1))]
    samples = losses.shape[1]
    spread = differences.std(axis=1, ddof=1) if samples > 1 else np.zeros(len(losses))
    return differences.mean(axis=1), spread / math.sqrt(samples)


def choose_blend(points: Sequence[BlendPoint], limit: Optional[float]) -> tuple[float, str]:
    """Returns the blend to take, and why.

    Args:
        points: by rising blend, from 0 on.
        limit: the largest fall of the guarded metric of the vendor's own task, which is then measured, from blend 0.

    Raises:
        DataError: the metric is infinite at blend 0, so that no loss of it can be measured.
    """
    lowest = min(point.loss for point in points)
    if limit is None:
        within = (point for point in points if point.loss - lowest <= point.uncertainty)
        return next(within).blend, "the smallest whose validation loss is within one standard error of the lowest"
    name = next(iter(points[0].retain))
    start = points[0].retain[name]
    if start is None:
        raise DataError(
            f"{name} of the vendor's own task is infinite at blend 0, so no loss of it can be measured",
            remedy="choose `metrics=('rmse',)`",
        )
    allowed = [point for point in points if _fall(point, name, start) <= limit or point is points[0]]
    best = min(allowed, key=lambda point: point.loss)
    return best.blend, f"the lowest validation loss with {name} of the vendor's own task within {limit:g} of blend 0"


def _fall(point: BlendPoint, name: str, start: float) -> float:
    now = point.retain[name]
    return -math.inf if now is None else worsening(name, start, now)
