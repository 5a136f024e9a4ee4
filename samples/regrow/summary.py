"""Statistics of curves: the best step of every run by its validation data, mean and spread over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Curve = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Spread:
    """Mean, and sample standard deviation (0 of a single value)."""

    mean: float
    deviation: float


def spread(values: Iterable[float]) -> Spread:
    """Returns mean and standard deviation of values, of which there is one at least."""
    array = np.array(list(values), float)
    return Spread(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0)


def best_look(curve: Curve) -> Mapping[str, Any]:
    """Returns the look with the lowest loss on the new task's validation data; of equal ones the earliest."""
    return min(curve, key=lambda each: (each["new validation"]["loss"], each["step"]))


def at_ends(curves: Sequence[Curve]) -> dict[str, dict[str, Spread]]:
    """Returns for the last look and the best one the test scores of the new and the old task over seeds."""
    chosen = {"end": [curve[-1] for curve in curves], "best": [best_look(curve) for curve in curves]}
    return {
        when: {task: spread(look[f"{task} test"]["score"] for look in looks) for task in ("new", "old")}
        for when, looks in chosen.items()
    }


def mean_curve(curves: Sequence[Curve]) -> list[tuple[int, Spread, Spread]]:
    """Returns for every step that all seeds came to the test scores of the new and of the old task."""
    steps = [each["step"] for each in min(curves, key=len)]
    at = [{each["step"]: each for each in curve} for curve in curves]
    return [
        (
            step,
            spread(each[step]["new test"]["score"] for each in at),
            spread(each[step]["old test"]["score"] for each in at),
        )
        for step in steps
    ]
