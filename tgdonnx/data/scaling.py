"""Intensity scaling: stored numbers to what a model was trained on, recorded so that outputs can be brought back.

``v' = (v - offset) / divisor``, computed in float64 and rounded to float32; nothing is clipped. How:

    a number     divided by it: 255 for 8-bit pictures; 1 takes the numbers as they are
    minmax       the smallest value becomes 0, the largest 1
    percentile   the 1st percentile becomes 0, the 99th 1
    standard     mean 0, standard deviation 1

Offset and divisor are computed once, on the training data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args

import numpy as np

from tgdonnx.data.stored import Array, Stored, read_finite, regions
from tgdonnx.errors import DataError

Statistic = Literal["minmax", "percentile", "standard"]
Scale = Union[float, Statistic]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

# Percentiles are taken of at most so many values, evenly spaced over the data.
PERCENTILE_VALUES = 2**22


@dataclass(frozen=True)
class Linear:
    """One array's scaling.

    Attributes:
        offset: subtracted first.
        divisor: divided by then.
        how: what the user asked for.
        every: percentiles were computed from one in so many values; 1 in all other cases.
    """

    offset: float
    divisor: float
    how: Scale
    every: int = 1

    def apply(self, values: Array) -> Array:
        """Returns scaled values, float32; infinity where one is too large for that."""
        with np.errstate(over="ignore"):  # infinity is looked for afterwards
            scaled: Array = ((values.astype(np.float64) - self.offset) / self.divisor).astype(np.float32)
        return scaled

    def undo(self, values: Array) -> Array:
        """Returns values in stored units, in the dtype that they came in."""
        restored: Array = (values.astype(np.float64) * self.divisor + self.offset).astype(values.dtype)
        return restored


@dataclass(frozen=True)
class Scaling:
    """The scaling of a data set.

    Attributes:
        arrays: by input; ``target`` stands for the model's output.
    """

    arrays: Mapping[str, Linear]

    def undo(self, array: Array, name: str = "target") -> Array:
        """Brings an array back to stored units; unchanged if it was not scaled.

        Args:
            array: float values; by default an output of the model, which is like the target.
            name: the input that it is for.
        """
        return self.arrays[name].undo(array) if name in self.arrays else array


def check_scale(how: Scale) -> None:
    """Checks what a user says.

    Raises:
        DataError: it is no way to scale.
    """
    if isinstance(how, str):
        if how not in STATISTICS:
            raise DataError(f"expected a scale of {', '.join(STATISTICS)}, or a number; got {how!r}")
    elif not (math.isfinite(how) and how > 0):
        raise DataError(f"expected a scale > 0, got {how:g}")


def measure(how: Scale, name: str, arrays: Iterable[Stored]) -> Linear:
    """Computes offset and divisor.

    Args:
        how: see the module.
        name: of the input, for messages.
        arrays: those of the training data; read in pieces, unless ``how`` is a number.

    Raises:
        DataError: an array cannot be read; all values are the same.
    """
    if not isinstance(how, str):
        return Linear(0.0, float(how), how)
    arrays = list(arrays)
    total = sum(int(np.prod(stored.shape, dtype=np.int64)) for stored in arrays)
    every = -(-total // PERCENTILE_VALUES) if how == "percentile" else 1
    low, high, mean, squares, count, chosen = math.inf, -math.inf, 0.0, 0.0, 0, []
    for stored in arrays:
        for region in regions(stored.shape, stored.dtype.itemsize):
            block = read_finite(stored, region, name).astype(np.float64).ravel()
            if how == "percentile":
                chosen.append(block[-count % every :: every])
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            # Mean and squared deviations of two sets together (Chan, Golub and LeVeque 1979).
            shift, weight = float(block.mean()) - mean, len(block) / (count + len(block))
            squares += float(((block - block.mean()) ** 2).sum()) + shift**2 * count * weight
            mean, count = mean + shift * weight, count + len(block)
    if how == "percentile":
        offset, top = (float(value) for value in np.percentile(np.concatenate(chosen), (1, 99)))
    else:
        offset, top = (low, high) if how == "minmax" else (mean, mean + math.sqrt(squares / count))
    if not (math.isfinite(top - offset) and top > offset):
        raise DataError(f"{name!r} cannot be scaled by {how}: its values do not differ, {offset:g} to {top:g}")
    return Linear(offset, top - offset, how, every)


def describe_linear(linear: Linear, stored: str) -> str:
    """Returns what is done to values, in words."""
    sign = "-" if linear.offset >= 0 else "+"
    shift = f"(v {sign} {abs(linear.offset):g})" if linear.offset else "v"
    sample = f", from 1 in {linear.every} values" if linear.every > 1 else ""
    return f"{stored} to float32: {shift} / {linear.divisor:g} ({linear.how}{sample})"


def to_json(linear: Linear) -> dict[str, Any]:
    """Returns what goes into a run's record."""
    return {"how": linear.how, "offset": linear.offset, "divisor": linear.divisor, "every": linear.every}
