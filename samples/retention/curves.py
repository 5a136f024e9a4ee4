"""Curves of the new task against the old over the blend, and how they compare: by seed, with intervals.

A curve is straight between its points, from the vendor's network on. What it offers at an old score is the best new score of
all its points that keep at least that, and the other way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Scores = Mapping[str, Sequence[float]]
_STEPS = 400
"""Places that are looked at between two points."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, and the half width of its 95 % interval by Student's t; that is NaN of one seed."""

    mean: float
    half: float
    seeds: int

    def __str__(self) -> str:
        if not np.isfinite(self.mean):
            return "–"
        return f"{self.mean:.2f}" + ("" if np.isnan(self.half) else f" ± {self.half:.2f}")

    @property
    def signed(self) -> str:
        """The same with a sign: of a difference."""
        return str(self) if not np.isfinite(self.mean) else f"{self.mean:+.2f}{str(self)[len(f'{self.mean:.2f}') :]}"


def interval(values: Iterable[float]) -> Interval:
    """Returns the mean of values over seeds with its interval; NaN if one of them is."""
    array = np.array(list(values), float)
    count = len(array)
    half = stats.t.ppf(0.975, count - 1) * array.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return Interval(float(array.mean()), float(half), count)


@dataclass(frozen=True)
class Curve:
    """The test scores of one run: ``old`` and ``new`` along the blend, the vendor's first."""

    old: Floats
    new: Floats

    def new_at(self, old: float) -> float:
        """Returns the best new score that keeps at least this of the old one; NaN if nothing does."""
        return _best(self.new, self.old, old)

    def old_at(self, new: float) -> float:
        """Returns the best old score that reaches this new one; NaN if nothing does."""
        return _best(self.old, self.new, new)

    def area(self, old: float) -> float:
        """Returns the area between the curve, the vendor's new score, and an old score that is below the vendor's.

        Only what keeps at most the vendor's old score counts; NaN if nothing is below it.
        """
        if old >= self.old[0]:
            return float("nan")
        gains = np.array([self.new_at(level) - self.new[0] for level in np.linspace(old, self.old[0], 201)])
        return float((gains[1:] + gains[:-1]).mean() / 2 * (self.old[0] - old))


def curve_of(vendor: Scores, blends: Mapping[str, Scores]) -> Curve:
    """Returns the curve of what a run stores."""
    points = {0.0: vendor, **{float(blend): scores for blend, scores in blends.items() if float(blend)}}
    old, new = (np.array([points[blend][place][1] for blend in sorted(points)]) for place in ("old test", "new test"))
    return Curve(old, new)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Returns the curve through the means over seeds, of curves with the same blends."""
    return Curve(np.mean([each.old for each in curves], axis=0), np.mean([each.new for each in curves], axis=0))


def _best(wanted: Floats, kept: Floats, level: float) -> float:
    at = np.linspace(0, len(kept) - 1, (len(kept) - 1) * _STEPS + 1)
    places = np.arange(len(kept))
    # What equals the level up to rounding keeps it.
    enough = np.interp(at, places, kept) >= level - 1e-9
    return float(np.interp(at, places, wanted)[enough].max()) if enough.any() else float("nan")
