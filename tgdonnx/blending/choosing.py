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


def smallest_within_error(losses: Floats) -> int:
    """Returns the first blend whose loss is within one standard error of the lowest.

    Args:
        losses: (blends, samples), by rising blend.
    """
    above, error = above_lowest(losses)
    return int(np.flatnonzero(above <= error)[0])


def lowest_within_limit(losses: Floats, falls: Sequence[Optional[float]], limit: float) -> int:
    """Returns the blend of the lowest loss, the smallest of several, that keeps the vendor's own task within a limit.

    Args:
        losses: (blends, samples), by rising blend.
        falls: by how much the vendor's own task is worse than at the first blend, which is always within the limit; None
            where that is infinitely good.
        limit: the largest fall.
    """
    within = [i == 0 or fall is None or fall <= limit for i, fall in enumerate(falls)]
    return int(np.argmin(np.where(within, losses.mean(axis=1), np.inf)))
