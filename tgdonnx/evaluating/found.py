"""What a file makes of an output, case by case, and every measure of it: of all cases or some, of all classes or one.

Of a case that was cut into tiles, psnr, ssim and rmse are means over its tiles; regions are added up over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.finetuning.class_counts import ClassCounts, mean_of_known
from tgdonnx.finetuning.metrics import MetricName, measure

Array = NDArray[Any]
Floats = NDArray[np.float64]
Chosen = Optional[NDArray[np.intp]]


@dataclass(frozen=True)
class Values:
    """Of an output of values: for names of metrics what they are of each case, NaN where nothing counts."""

    by_metric: Mapping[MetricName, Floats]

    def per_case(self, metric: MetricName) -> Floats:
        """Returns a metric of every case."""
        return self.by_metric[metric]

    def score(self, metric: MetricName, chosen: Chosen = None, label: Optional[int] = None) -> float:
        """Returns the mean of a metric over cases; NaN of none."""
        assert label is None, "values have no classes"
        return _mean(self.per_case(metric), chosen)


@dataclass(frozen=True)
class Classes:
    """Of a classifier, that gives one class per case.

    Attributes:
        count: of the classes.
        wanted: of shape (cases,), the class of the target.
        found: the same of the output.
        probability: of the class that was found; the softmax of the outputs where these are no probabilities.
    """

    count: int
    wanted: NDArray[np.int64]
    found: NDArray[np.int64]
    probability: Floats

    def counts(self, chosen: Chosen = None) -> ClassCounts:
        """Returns what was counted over cases."""
        counts = ClassCounts(self.count)
        rows = slice(None) if chosen is None else chosen
        counts.add(self.found[rows], self.wanted[rows], self.wanted[rows] >= 0)
        return counts

    def per_case(self, metric: MetricName) -> Floats:
        """Returns of every case whether it is right, as 0 or 1; NaN where its label does not count."""
        assert metric == "accuracy", metric
        return np.where(self.wanted < 0, np.nan, (self.found == self.wanted).astype(np.float64))

    def score(self, metric: MetricName, chosen: Chosen = None, label: Optional[int] = None) -> float:
        """Returns accuracy or f1 over cases; of one class its accuracy (recall), or its F1. NaN where nothing counts."""
        counts = self.counts(chosen)
        if metric == "accuracy":
            return counts.accuracy() if label is None else float(counts.recall()[label])
        return mean_of_known(counts.f1()) if label is None else float(counts.f1()[label])


@dataclass(frozen=True)
class Regions:
    """Of a segmenter: how much of every class is right, wanted and found in every case.

    Attributes:
        right: of shape (cases, classes); of masks, channels are classes.
        wanted: the same.
        found: the same.
        agreed: of shape (cases,), how much is right, what is of no class among it.
        counted: how much counts.
        pooled: whether dice and iou of a case are of all its channels together, as of masks, and not means over classes.
        matrix: the confusion matrix over all cases, rows are classes of the target; None of masks of several channels.
    """

    right: Floats
    wanted: Floats
    found: Floats
    agreed: Floats
    counted: Floats
    pooled: bool
    matrix: Optional[Floats] = field(repr=False)

    def per_class(self, metric: MetricName) -> Floats:
        """Returns dice or iou of every case and class, of shape (cases, classes); NaN where a class neither is nor is found."""
        return _overlap(metric, self.right, self.wanted, self.found)

    def per_case(self, metric: MetricName) -> Floats:
        """Returns accuracy, dice or iou of every case; NaN where nothing counts."""
        nothing = self.counted == 0
        if metric == "accuracy":
            return np.where(nothing, np.nan, self.agreed / np.where(nothing, 1, self.counted))
        if self.pooled:
            found = _overlap(metric, self.right.sum(1), self.wanted.sum(1), self.found.sum(1))
        else:
            found = np.array([mean_of_known(values) for values in self.per_class(metric)])
        return np.where(nothing, np.nan, np.where(np.isnan(found), 1.0, found))

    def score(self, metric: MetricName, chosen: Chosen = None, label: Optional[int] = None) -> float:
        """Returns a metric over cases, NaN where nothing counts.

        dice and iou are means over cases, of one class over those that it is or is found in; f1, and the accuracy of one class
        (its recall), are of all cases together.
        """
        if metric in ("dice", "iou"):
            return _mean(self.per_case(metric) if label is None else self.per_class(metric)[:, label], chosen)
        if metric == "accuracy" and label is None:
            return _mean(self.per_case(metric), chosen)
        rows = slice(None) if chosen is None else chosen
        right, wanted, found = (each[rows].sum(0) for each in (self.right, self.wanted, self.found))
        if metric == "accuracy":
            return float((_ratio(right, wanted))[label])
        f1 = _ratio(2 * right, wanted + found)
        return mean_of_known(f1) if label is None else float(f1[label])


class ValuesCollector:
    """Collects `Values`."""

    def __init__(self, cases: int, metrics: tuple[MetricName, ...], data_range: Optional[float]) -> None:
        """Begins; ``data_range`` is for psnr and ssim."""
        self._metrics, self._range = metrics, data_range
        self._sums = {name: np.zeros(cases) for name in metrics}
        self._counts = {name: np.zeros(cases) for name in metrics}

    def add(self, places: NDArray[np.int64], output: Array, target: Array, counts: Optional[Array]) -> None:
        """Measures samples or tiles of cases."""
        for name in self._metrics:
            values = measure(name, output, target, self._range, counts)
            known = ~np.isnan(values)
            np.add.at(self._sums[name], places[known], values[known])
            np.add.at(self._counts[name], places[known], 1)

    def result(self) -> Values:
        """Returns what was collected."""
        return Values({name: _ratio(self._sums[name], self._counts[name]) for name in self._metrics})


class ClassesCollector:
    """Collects `Classes`."""

    def __init__(self, cases: int, classes: int) -> None:
        """Begins."""
        self._classes = classes
        self._wanted, self._found = np.full(cases, -1, np.int64), np.zeros(cases, np.int64)
        self._probability = np.zeros(cases)

    def add(self, places: NDArray[np.int64], scores: Array, target: Array, counts: Optional[Array]) -> None:
        """Takes the scores of cases, of shape (cases, classes), and their labels."""
        probabilities = as_probabilities(scores)
        self._found[places] = scores.argmax(1)
        self._probability[places] = probabilities.max(1)
        self._wanted[places] = target if counts is None else np.where(counts > 0, target, -1)

    def result(self) -> Classes:
        """Returns what was collected."""
        return Classes(self._classes, self._wanted, self._found, self._probability)


class RegionsCollector:
    """Collects `Regions`."""

    def __init__(self, cases: int, classes: int, *, masks: bool) -> None:
        """Begins; of masks channels are classes."""
        self._right, self._wanted, self._found = (np.zeros((cases, classes)) for _ in range(3))
        self._agreed, self._counted = np.zeros(cases), np.zeros(cases)
        self._masks = masks
        self._matrix = None if masks and classes > 1 else ClassCounts(2 if masks else classes)

    def add(self, places: NDArray[np.int64], found: Array, wanted: Array, counts: Optional[Array]) -> None:
        """Takes classes of places, or masks of shape (samples, channels, ...), of samples or tiles of cases."""
        weights = np.ones(found.shape) if counts is None else counts.astype(np.float64)
        for place, a, b, weight in zip(places, found, wanted, weights):
            self._agreed[place] += weight[a == b].sum()
            self._counted[place] += weight.sum()
            if self._masks:
                right, of_b, of_a = (_by_channel(weight * each) for each in (a & b, b, a))
            else:
                own = ClassCounts(self._right.shape[1])
                own.add(a, b, weight)
                right, of_b, of_a = own.right, own.wanted, own.found
            for total, part in ((self._right, right), (self._wanted, of_b), (self._found, of_a)):
                total[place] += part
            if self._matrix is not None:
                self._matrix.add(a, b, weight)

    def result(self) -> Regions:
        """Returns what was collected."""
        matrix = None if self._matrix is None else self._matrix.matrix
        return Regions(self._right, self._wanted, self._found, self._agreed, self._counted, self._masks, matrix)


def as_probabilities(scores: Array) -> Floats:
    """Returns scores of classes, of shape (samples, classes), as they are where they add up to 1, and else their softmax."""
    scores = scores.astype(np.float64)
    if scores.min(initial=0) >= 0 and bool(np.all(np.abs(scores.sum(1) - 1) <= 1e-3)):  # of half precision, too
        return scores
    powers = np.exp(scores - scores.max(1, keepdims=True))
    softmax: Floats = powers / powers.sum(1, keepdims=True)
    return softmax


def _by_channel(values: Array) -> Floats:
    sums: Floats = values.reshape(len(values), -1).sum(1) if values.ndim > 1 else values
    return sums


def _overlap(metric: MetricName, right: Floats, wanted: Floats, found: Floats) -> Floats:
    return _ratio(2 * right, wanted + found) if metric == "dice" else _ratio(right, wanted + found - right)


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = part / whole
    return ratio


def _mean(values: Floats, chosen: Chosen) -> float:
    return mean_of_known(values if chosen is None else values[chosen])
