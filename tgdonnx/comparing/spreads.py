"""What runs by several seeds have in common, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from tgdonnx.comparing.choosing import Entry


@dataclass(frozen=True)
class Measured:
    """A number that every run has.

    Attributes:
        mean: of the runs; None where one of them has none, or an infinite one.
        deviation: the standard deviation of the sample, with n - 1; None where the mean is, and of a single run.
    """

    mean: Optional[float]
    deviation: Optional[float]

    @classmethod
    def of(cls, values: Iterable[Optional[float]]) -> Measured:
        """Returns mean and deviation of numbers, None for those that are not known."""
        found = list(values)
        known = [value for value in found if value is not None]
        if not known or len(known) < len(found):
            return cls(None, None)
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


@dataclass(frozen=True)
class Spread:
    """What several runs of a selection came to, each at its best point.

    Attributes:
        name: of the selection.
        seeds: of the runs that came to their end.
        loss: of the validation data.
        new: the first metric of the validation data.
        old: the first metric of the vendor's own task.
    """

    name: str
    seeds: tuple[int, ...]
    loss: Measured
    new: Measured
    old: Measured


def spreads_of(entries: Sequence[Entry]) -> tuple[Spread, ...]:
    """Returns one for each selection, in the order in which they come."""
    runs: dict[str, list[Entry]] = {}
    for entry in entries:
        runs.setdefault(entry.name, []).append(entry)
    return tuple(
        Spread(
            name,
            tuple(entry.seed for entry in each),
            Measured.of(entry.best.loss for entry in each),
            Measured.of(entry.best.new for entry in each),
            Measured.of(entry.best.old for entry in each),
        )
        for name, each in runs.items()
    )


def choose_of_spread(entries: Sequence[Entry], spreads: Sequence[Spread]) -> Entry:
    """Returns, of the selection with the lowest mean loss, the run with the lowest; of equal ones what changes fewest numbers.

    Args:
        entries: all runs.
        spreads: of their selections.
    """
    means = {spread.name: spread.loss.mean for spread in spreads}

    def rank(entry: Entry) -> tuple[float, float, int]:
        mean = means[entry.name]
        assert mean is not None  # a loss that is not finite ends a run before its best point
        return mean, entry.best.loss, entry.changed

    return min(entries, key=rank)
