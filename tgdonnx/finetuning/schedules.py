"""Learning rates over the steps of a run."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine"]
SCHEDULES: tuple[ScheduleName, ...] = ("constant", "linear", "cosine")


def learning_rate_at(step: int, steps: int, *, peak: float, schedule: ScheduleName, warmup: int = 0) -> float:
    """Returns the learning rate of a step.

    Args:
        step: counted from 0.
        steps: how many the run has.
        peak: the largest learning rate.
        schedule: ``constant``; ``linear`` or ``cosine`` fall from ``peak`` to 0 at the end of the run.
        warmup: the first steps, over which the rate rises linearly to ``peak``.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "linear":
        return peak * (1 - done)
    if schedule == "cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    return peak
