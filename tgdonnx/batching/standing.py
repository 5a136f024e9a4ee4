"""How jobs stand to each other: which lie far from the others, by a measure or by what they gained.

A value's distance is counted in robust standard deviations from the median, 1.4826 times the median absolute deviation
(Iglewicz and Hoaglin 1993); beyond 3.5 it is called an outlier. With fewer than five values nothing is.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tgdonnx.batching.records import JobResult
from tgdonnx.finetuning.metrics import LOSS, SMALLER_IS_BETTER, metric_of

FAR = 3.5
_FEWEST = 5
_CONSISTENT = 1.4826


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
        distance: the largest of its distances from the medians.
        why: which that is, in words; empty where it is no outlier.
    """

    distance: float
    why: str = ""


def measures_of(results: Sequence[JobResult]) -> tuple[str, ...]:
    """Returns the names of all that was measured of jobs that are done."""
    return tuple(dict.fromkeys(name for each in results if each.state == "done" for name in each.metrics))


def smaller_is_better(measure: str) -> bool:
    """Whether less of a measure is better."""
    return metric_of(measure) == LOSS or metric_of(measure) in SMALLER_IS_BETTER


def standings(results: Sequence[JobResult]) -> Mapping[str, Standing]:
    """Returns for the names of jobs that are done how they stand."""
    done = [each for each in results if each.state == "done"]
    found = {each.name: Standing(0.0) for each in done}
    for measure in measures_of(done):
        values = {each.name: each.metrics.get(measure) for each in done}
        gains = {
            each.name: after - before
            for each in done
            for before, after in [(each.before.get(measure), each.metrics.get(measure))]
            if before is not None and after is not None
        }
        for what, numbers in ((measure, values), (f"change of {measure}", gains)):
            for name, distance in _distances({n: v for n, v in numbers.items() if v is not None}).items():
                if abs(distance) > found[name].distance:
                    found[name] = Standing(abs(distance), _told(what, distance))
    return found


def _told(what: str, distance: float) -> str:
    side = "above" if distance > 0 else "below"
    by = "" if abs(distance) == float("inf") else f", by {abs(distance):.3g} robust standard deviations"
    return f"{what} is {side} the median{by}" if abs(distance) > FAR else ""


def _distances(values: Mapping[str, float]) -> dict[str, float]:
    if len(values) < _FEWEST:
        return {}
    median = statistics.median(values.values())
    deviation = _CONSISTENT * statistics.median(abs(value - median) for value in values.values())
    if deviation == 0:  # more than half are the same: any other is far, if it is not rounding
        close = 1e-6 * abs(median)
        return {
            name: float("inf") if value > median else -float("inf")
            for name, value in values.items()
            if abs(value - median) > close
        }
    return {name: (value - median) / deviation for name, value in values.items()}


def outliers_first(results: Sequence[JobResult]) -> list[JobResult]:
    """Returns jobs as a reader wants them: those that failed, those that are far from the others, then the rest in order."""
    known = standings(results)

    def place(result: JobResult) -> tuple[int, float]:
        if result.state != "done":
            return (0 if result.state == "failed" else 2, 0.0)
        standing = known[result.name]
        return (1, -standing.distance if standing.why else 0.0)

    return sorted(results, key=place)
