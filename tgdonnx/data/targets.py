"""The range that a loss asks of targets, and what lies outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TARGET


@dataclass(frozen=True)
class TargetLimits:
    """The range that a loss asks of a target.

    Attributes:
        name: of the target.
        low: the least value that it may have, as a step is fed it.
        high: the largest.
        loss: which loss.
        labels: whether targets are class indices.
        ignore: the class index that does not count, and may be outside.
    """

    name: str
    low: float
    high: float
    loss: str
    labels: bool = False
    ignore: Optional[int] = None

    def outside(self, target: Array) -> Array:
        """Returns where values are not in range, and count."""
        found: Array = (target < self.low) | (target > self.high)
        return found if self.ignore is None else found & (target != self.ignore)

    def error(self, found: Outside) -> DataError:
        """Returns the error that says that targets are out of range, and what would help."""
        low, high = found.low, found.high
        between = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        values = "value" if found.total == 1 else "values"
        count = f"{found.count} of {found.total} {values} {'is' if found.count == 1 else 'are'} outside"
        said = (
            f"the loss {self.loss} needs {'targets' if self.name == TARGET else repr(self.name)} in {self.low:g} to "
            f"{self.high:g}, found {between} "
            f"({found.place}; {count})"
        )
        if self.labels:
            if (low, high) == (1, self.high + 1):
                remedy = "subtract 1 if they count from 1"
            elif found.only is not None and self.ignore is None:
                remedy = f"correct them, leave them out, or let that label not count, as in `loss='ce(ignore={found.only:g})'`"
            else:
                remedy = "correct them, or leave them out"
            return DataError(
                f"{said}: class indices of a model of {self.high + 1:g} classes, to which none can be added, for training "
                f"moves filters that are there; {remedy}"
            )
        if found.stored is not None and found.stored[0] >= 0:
            return DataError(f"{said}; `scales={{{self.name!r}: {found.stored[1]!r}}}` divides by the largest")
        return DataError(said, remedy="scale them to that, or train on values with `loss='mse'` or `loss='l1'`")


@dataclass(frozen=True)
class Outside:
    """Values that are out of range.

    Attributes:
        low: the least of all values, as a step is fed them.
        high: the largest.
        place: where the first lies that is out of range, and what it is.
        count: how many are.
        total: of how many.
        only: what all of these are; None if they differ.
        stored: the least and the largest value in the files; None if not all were looked at.
    """

    low: float
    high: float
    place: str
    count: int
    total: int
    only: Optional[float]
    stored: Optional[tuple[float, float]] = None


class Search:
    """Looks for values that are out of range, block by block."""

    def __init__(self, limits: TargetLimits) -> None:
        """Begins."""
        self._limits = limits
        self._low, self._high, self._count, self._total = np.inf, -np.inf, 0, 0
        self._place = ""
        self._kinds: set[float] = set()

    def add(self, values: Array, place: str, start: tuple[int, ...]) -> None:
        """Looks at a block.

        Args:
            values: as a step is fed them.
            place: where it lies, for messages.
            start: the index of its first value there.
        """
        if not values.size:
            return
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        self._total += values.size
        outside = self._limits.outside(values)
        if not outside.any():
            return
        if not self._count:
            at = np.argwhere(outside)[0]
            index = [int(i) + first for i, first in zip(at, start)]
            self._place = f"{place}: {self._limits.name}{index} is {values[tuple(at)]:g}"
        found: Array = values[outside]
        self._count += found.size
        self._kinds |= {float(found.min()), float(found.max())}

    def result(self, stored: Optional[tuple[float, float]] = None) -> Optional[Outside]:
        """Returns what was found; None if all values are in range."""
        if not self._count:
            return None
        only: Any = next(iter(self._kinds)) if len(self._kinds) == 1 else None
        return Outside(self._low, self._high, self._place, self._count, self._total, only, stored)
