"""The range that a loss asks of targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError


@dataclass(frozen=True)
class TargetLimits:
    """The range that a loss asks of targets.

    Attributes:
        low: the least value that a target may have, as a step is fed it.
        high: the largest.
        loss: which loss.
        labels: whether targets are class indices.
    """

    low: float
    high: float
    loss: str
    labels: bool

    def allow(self, low: float, high: float) -> bool:
        """Whether values from ``low`` to ``high`` are in range."""
        return self.low <= low and high <= self.high

    def allow_all(self, target: Array) -> bool:
        """Whether all values of a target are in range."""
        return not target.size or self.allow(float(target.min()), float(target.max()))

    def error(
        self, name: str, found: tuple[float, float], place: str, stored: Optional[tuple[float, float]]
    ) -> DataError:
        """Returns the error that says that targets are out of range, and what would help.

        Args:
            name: of the target.
            found: the least and the largest value, as a step is fed them.
            place: where the first lies that is out of range.
            stored: the least and the largest value in the files; None if not all were looked at.
        """
        low, high = found
        between = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        said = f"the loss {self.loss} needs targets in {self.low:g} to {self.high:g}, found {between} ({place})"
        if self.labels:
            counted = (low, high) == (1, self.high + 1)
            remedy = "subtract 1 if they count from 1" if counted else "correct them, or leave them out"
            return DataError(f"{said}: class indices of a model of {self.high + 1:g} classes; {remedy}")
        if stored is not None and stored[0] >= 0:
            return DataError(f"{said}; `scales={{{name!r}: {stored[1]!r}}}` divides by the largest")
        return DataError(said, remedy="scale them to that, or train on values with `loss='mse'` or `loss='l1'`")
