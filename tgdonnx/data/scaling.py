"""Intensity scaling: stored numbers to what a model was trained on, recorded so that outputs can be brought back.

``v' = (v - offset) / divisor``, computed in float64 and rounded to float32; nothing is clipped. How:

    a number     divided by it: 255 for 8-bit pictures; 1 takes the numbers as they are
    minmax       the smallest value becomes 0, the largest 1
    percentile   the 1st percentile becomes 0, the 99th 1
    standard     mean 0, standard deviation 1
    imagenet     divided by 255, then per channel by the mean and standard deviation that torchvision's classifiers were given

A mean and standard deviation per channel may follow: ``v'' = (v' - mean) / std``, before the rounding. Offset and divisor
are computed once, on the training data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional, Union, get_args

import numpy as np

from tgdonnx.data.lazy_arrays import Array, LazyArray, read_finite, regions
from tgdonnx.errors import DataError

Statistic = Literal["minmax", "percentile", "standard"]
IMAGENET: Literal["imagenet"] = "imagenet"
Scale = Union[float, Statistic, Literal["imagenet"]]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

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
        mean: subtracted after that, per channel or one for all; nothing if empty.
        std: divided by then.
    """

    offset: float
    divisor: float
    how: Scale
    every: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def apply(self, values: Array, channels: int = 1) -> Array:
        """Returns scaled values, float32; infinity where one is too large for that. ``channels`` is their axis."""
        with np.errstate(over="ignore"):  # infinity is looked for afterwards
            scaled: Array = (values.astype(np.float64) - self.offset) / self.divisor
            if self.mean:
                mean, std = (self._along(of, values.ndim, channels) for of in (self.mean, self.std))
                scaled = (scaled - mean) / std
            return scaled.astype(np.float32)

    def undo(self, values: Array, channels: int = 1) -> Array:
        """Returns values in stored units, in the dtype that they came in. ``channels`` is the axis of channels."""
        restored: Array = values.astype(np.float64)
        if self.mean:
            mean, std = (self._along(of, values.ndim, channels) for of in (self.mean, self.std))
            restored = restored * std + mean
        return (restored * self.divisor + self.offset).astype(values.dtype)

    @staticmethod
    def _along(of: tuple[float, ...], rank: int, channels: int) -> Array:
        if len(of) == 1:
            return np.array(of[0])
        return np.array(of).reshape([-1 if axis == channels else 1 for axis in range(rank)])


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
        if how not in (*STATISTICS, IMAGENET):
            raise DataError(f"expected a scale of {', '.join((*STATISTICS, IMAGENET))}, or a number; got {how!r}")
    elif not (math.isfinite(how) and how > 0):
        raise DataError(f"expected a scale > 0, got {how:g}")


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Checks means and standard deviations of channels.

    Raises:
        DataError: one is there without the other, they differ in number, or a standard deviation is not above 0.
    """
    if len(mean) != len(std):
        raise DataError(f"expected as many numbers of `mean` as of `std`, got {len(mean)} and {len(std)}")
    if not all(map(math.isfinite, (*mean, *std))) or min(std, default=1) <= 0:
        raise DataError(f"expected a mean, and a std above 0; got {_numbers(mean)} and {_numbers(std)}")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


class Measurement:
    """Offset and divisor of one input, from its values block by block.

    Attributes:
        how: see the module.
        name: of the input, for messages.
        reads: whether they depend on values.
    """

    def __init__(self, how: Scale, name: str, arrays: Sequence[LazyArray]) -> None:
        """Begins; ``arrays`` are those of the training data, all of which have to be added in the end, where values count."""
        self.how, self.name = how, name
        self.reads = isinstance(how, str) and how != IMAGENET
        total = sum(math.prod(stored.shape) for stored in arrays)
        self._every = -(-total // PERCENTILE_VALUES) if how == "percentile" else 1
        self._low, self._high, self._mean, self._squares, self._count = math.inf, -math.inf, 0.0, 0.0, 0
        self._chosen: list[Array] = []

    def add(self, values: Array) -> None:
        """Takes the next values into account; the order matters to percentiles alone."""
        if not self.reads or not values.size:
            return
        block = values.astype(np.float64).ravel()
        if self.how == "percentile":
            # Copied: a view would keep the whole block.
            self._chosen.append(block[-self._count % self._every :: self._every].copy())
        self._low, self._high = min(self._low, float(block.min())), max(self._high, float(block.max()))
        # Mean and squared deviations of two sets together (Chan, Golub and LeVeque 1979).
        shift, weight = float(block.mean()) - self._mean, len(block) / (self._count + len(block))
        self._squares += float(((block - block.mean()) ** 2).sum()) + shift**2 * self._count * weight
        self._mean, self._count = self._mean + shift * weight, self._count + len(block)

    def result(self) -> Linear:
        """Returns offset and divisor.

        Raises:
            DataError: all values are the same.
        """
        if self.how == IMAGENET:
            return Linear(0.0, 255.0, IMAGENET, 1, IMAGENET_MEAN, IMAGENET_STD)
        if not isinstance(self.how, str):
            return Linear(0.0, float(self.how), self.how)
        if self.how == "percentile":
            offset, top = (float(value) for value in np.percentile(np.concatenate(self._chosen), (1, 99)))
        elif self.how == "minmax":
            offset, top = self._low, self._high
        else:
            offset, top = self._mean, self._mean + math.sqrt(self._squares / self._count)
        if not (math.isfinite(top - offset) and top > offset):
            raise DataError(
                f"{self.name!r} cannot be scaled by {self.how}: its values do not differ, {offset:g} to {top:g}"
            )
        return Linear(offset, top - offset, self.how, self._every)


def measure(how: Scale, name: str, arrays: Sequence[LazyArray]) -> Linear:
    """Computes offset and divisor of some arrays together.

    Args:
        how: see the module.
        name: of the input, for messages.
        arrays: read in pieces, unless ``how`` is a number.

    Raises:
        DataError: an array cannot be read; all values are the same.
    """
    measurement = Measurement(how, name, arrays)
    for array in arrays if measurement.reads else ():
        for region in regions(array.shape, array.dtype.itemsize):
            measurement.add(read_finite(array, region, name))
    return measurement.result()


def require_channels(linear: Linear, channels: Optional[int], what: str) -> None:
    """Checks that there is a mean for every channel, or one for all.

    Args:
        linear: the scaling.
        channels: how many there are; None where there is no such axis.
        what: the array, for messages.

    Raises:
        DataError: there is not.
    """
    if len(linear.mean) > 1 and channels != len(linear.mean):
        raise DataError(
            f"{what} has {channels or 'no'} channels, and there are {len(linear.mean)} means",
            remedy="give as many, or one for all; or make pictures `colour='rgb'` or `colour='grey'`",
        )


def describe_linear(linear: Linear, stored: str) -> str:
    """Returns what is done to values, in words."""
    sign = "-" if linear.offset >= 0 else "+"
    shift = f"(v {sign} {abs(linear.offset):g})" if linear.offset else "v"
    sample = f", from 1 in {linear.every} values" if linear.every > 1 else ""
    then = f", then less {_numbers(linear.mean)} and by {_numbers(linear.std)}" if linear.mean else ""
    if not linear.offset and linear.divisor == 1 and not linear.every > 1:
        return f"{stored} to float32, not scaled{then}"
    how = f" ({linear.how}{sample})" if isinstance(linear.how, str) else ""  # a number is what it divides by
    return f"{stored} to float32: {shift} / {linear.divisor:g}{how}{then}"


def to_json(linear: Linear) -> dict[str, Any]:
    """Returns what goes into a run's record."""
    normalised = {"mean": list(linear.mean), "std": list(linear.std)} if linear.mean else {}
    return {"how": linear.how, "offset": linear.offset, "divisor": linear.divisor, "every": linear.every, **normalised}
