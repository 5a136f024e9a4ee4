"""Learning rates over the steps of a run."""

from __future__ import annotations

import math
from typing import Literal, Optional

ScheduleName = Literal["constant", "linear", "cosine"]
SCHEDULES: tuple[ScheduleName, ...] = ("constant", "linear", "cosine")


def learning_rate_at(step: int, steps: Optional[int], *, peak: float, schedule: ScheduleName, warmup: int = 0) -> float:
    """Returns the learning rate of a step.

    Args:
        step: counted from 0.
        steps: how many the run has; None, for ``constant`` only, if that is not known.
        peak: the largest learning rate.
        schedule: ``constant``; ``linear`` or ``cosine`` fall from ``peak`` to 0 at the end of the run.
        warmup: the first steps, over which the rate rises linearly to ``peak``.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    assert steps is not None
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "linear":
        return peak * (1 - done)
    return peak * (1 + math.cos(math.pi * done)) / 2
