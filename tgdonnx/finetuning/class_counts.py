"""How often classes are wanted, found, and right, over a whole data set: what F1 and a confusion matrix are made of.

For a class with w elements of the target, f of the output and r that are both: recall r / w (the accuracy of the class),
precision r / f, F1 2 r / (w + f), which is Dice, and IoU r / (w + f - r).
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


class ClassCounts:
    """Counts of pairs of classes, added up batch by batch.

    Attributes:
        matrix: the confusion matrix, float64 of shape (classes, classes): rows are classes of the target, columns those of the
            output.
    """

    def __init__(self, classes: int = 0) -> None:
        """Begins.

        Args:
            classes: how many there are at least; a larger class that comes makes room for itself.
        """
        self.matrix: Floats = np.zeros((classes, classes))

    def add(self, found: Array, wanted: Array, counts: Optional[Array] = None) -> None:
        """Counts the elements of outputs and targets.

        Args:
            found: classes, 0 and more, or False and True.
            wanted: the same of the target.
            counts: what every element counts; all 1 if None. What counts 0 may be of any class.
        """
        weights = np.ones(found.shape) if counts is None else counts.astype(np.float64)
        counted = weights > 0
        a, b = wanted[counted].astype(np.int64), found[counted].astype(np.int64)
        if not a.size:
            return
        size = max(len(self.matrix), int(a.max()) + 1, int(b.max()) + 1)
        if size > len(self.matrix):
            self.matrix = np.pad(self.matrix, (0, size - len(self.matrix)))
        self.matrix += np.bincount(a * size + b, weights[counted], size * size).reshape(size, size)

    @property
    def wanted(self) -> Floats:
        """How much of the target is of each class."""
        wanted: Floats = self.matrix.sum(1)
        return wanted

    @property
    def found(self) -> Floats:
        """How much of the output is of each class."""
        found: Floats = self.matrix.sum(0)
        return found

    @property
    def right(self) -> Floats:
        """How much of each class is right."""
        right: Floats = np.diag(self.matrix).copy()
        return right

    def accuracy(self) -> float:
        """Returns the share that is right; NaN if nothing was counted."""
        return float(_ratio(self.right.sum(), self.matrix.sum()))

    def recall(self) -> Floats:
        """Returns the accuracy of each class; NaN where the target has none of it."""
        return _ratio(self.right, self.wanted)

    def precision(self) -> Floats:
        """Returns which share of what is found to be of a class is; NaN where nothing is found to be."""
        return _ratio(self.right, self.found)

    def f1(self) -> Floats:
        """Returns the F1 of each class, which is its Dice; NaN where it neither is nor is found."""
        return _ratio(2 * self.right, self.wanted + self.found)

    def iou(self) -> Floats:
        """Returns the IoU of each class; NaN where it neither is nor is found."""
        return _ratio(self.right, self.wanted + self.found - self.right)


def mean_of_known(values: Floats) -> float:
    """Returns the mean of what is not NaN; NaN if all is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _ratio(part: Any, whole: Any) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = np.asarray(part, np.float64) / np.asarray(whole, np.float64)
    return ratio
