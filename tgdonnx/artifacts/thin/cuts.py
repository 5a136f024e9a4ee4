"""What a retrain mask lets train of a tensor, as cuts along its axes.

    M = 1 at R                            one cut: the indices R of one axis, a
    M = 1 at R of a, or at C of b         two cuts: R of a; and of what is left, C of b

Of the second kind are the masks of filters that retrain (rows) and of maps that every filter reads anew (columns). Rows come
first, since what a network computes of filters it computes one by one. Each cut gives a piece that trains,

    p[R, :],  p[not R, C],  and what is frozen:  p[not R, not C]

and together they hold every element that trains, once, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """Divides an axis in two.

    Attributes:
        axis: of the tensor.
        chosen: the indices that go into one piece, ascending.
        others: those that do not.
    """

    axis: int
    chosen: Indices = field(repr=False)
    others: Indices = field(repr=False)


def cuts_of(mask: NDArray[np.float32], filter_axis: Optional[int]) -> tuple[Cut, ...]:
    """Returns the cuts, one or two, that separate what trains from what does not.

    Args:
        mask: 0 or 1; any shape that broadcasts against the tensor.
        filter_axis: the axis of the tensor that counts filters; None where none does alone.

    Returns:
        Nothing where all trains, or nothing does, or the mask is no union of rows and columns.
    """
    trains = mask == 1
    axes = [axis for axis in range(trains.ndim) if (trains != trains.take([0], axis)).any()]
    if filter_axis in axes:
        axes.sort(key=lambda axis: axis != filter_axis)
    if len(axes) == 1:
        return (_cut(axes[0], trains.any(axis=tuple(axis for axis in range(trains.ndim) if axis != axes[0]))),)
    if len(axes) != 2:
        return ()
    table = np.moveaxis(trains, axes, (0, 1)).reshape(*(trains.shape[axis] for axis in axes), -1)[:, :, 0]
    rows = table.all(axis=1)
    columns = table[~rows].all(axis=0)
    if not np.array_equal(table, rows[:, None] | columns):
        return ()
    return _cut(axes[0], rows), _cut(axes[1], columns)


def piece(cuts: Sequence[Cut]) -> tuple[tuple[int, Indices], ...]:
    """Returns where the piece that the last cut gives lies: for each axis that was cut its indices there."""
    *before, last = cuts
    return (*((cut.axis, cut.others) for cut in before), (last.axis, last.chosen))


def _cut(axis: int, chosen: NDArray[np.bool_]) -> Cut:
    return Cut(axis, np.flatnonzero(chosen).astype(np.int64), np.flatnonzero(~chosen).astype(np.int64))
