"""Metrics: how good an output is, in words that people use.

Each but f1 takes outputs and targets of the same shape, the first axis counting samples, and gives one number per sample; the
metric of a data set is their mean. For a sample with output y and target t, and R the range of the data:

    rmse      sqrt(mean((y - t)^2))
    psnr      20 log10(R / rmse), in dB; infinite where y = t
    ssim      Wang et al., IEEE Trans. Image Processing 13 (2004), eq. 13, with their Gaussian window of 11 samples per axis
              and sigma 1.5, K1 = 0.01, K2 = 0.03, where the window lies inside the image; mean over channels and places
    accuracy  the fraction of the elements whose class is right
    dice      2 |A and B| / (|A| + |B|), Dice (1945), mean over the classes that occur in A or B; 1 if none does
    iou       |A and B| / |A or B|, Jaccard (1912), mean over the same classes; 1 if none occurs
    f1        2 |A and B| / (|A| + |B|) over all samples at once, mean over the classes that occur (macro F1)

The last four compare classes: integers for class indices; False and True for masks, whose only class that counts for Dice and
IoU is True. Dice and IoU compare regions, so they are not of outputs that are one class for a whole sample. f1 adds up counts
(`class_counts`). Where elements count differently, rmse, psnr and accuracy are weighted means, and the others add up weights,
not elements; for a sample of which nothing counts each is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, Optional, cast

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError

Array = NDArray[Any]
MetricName = Literal["psnr", "ssim", "rmse", "accuracy", "dice", "iou", "f1"]
Task = Literal["values", "mask", "classes"]
METRICS: tuple[MetricName, ...] = ("psnr", "ssim", "rmse", "accuracy", "dice", "iou", "f1")
LOSS = "loss"
POOLED: frozenset[MetricName] = frozenset({"f1"})
"""Metrics of a data set that are no mean over its samples."""
SMALLER_IS_BETTER: frozenset[MetricName] = frozenset({"rmse"})
WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03


def measure(
    name: MetricName,
    output: Array,
    target: Array,
    data_range: Optional[float] = None,
    counts: Optional[Array] = None,
) -> NDArray[np.float64]:
    """Returns a metric of every sample.

    Args:
        name: which.
        output: (samples, ...), numbers, or for accuracy and dice classes.
        target: the same.
        data_range: R, for psnr and ssim.
        counts: what every element counts, of the same shape, 0 and more, or False and True; all alike if None. Not of ssim.
    """
    assert output.shape == target.shape, f"{output.shape} and {target.shape}"
    if name == "ssim":
        assert data_range is not None
        assert counts is None
        return _ssim(output, target, data_range)
    if name == "psnr":
        assert data_range is not None
        with np.errstate(divide="ignore"):
            result: NDArray[np.float64] = 20 * np.log10(data_range / _rmse(output, target, counts))
        return result
    assert name not in POOLED, name
    return {"rmse": _rmse, "accuracy": _accuracy, "dice": _dice, "iou": _iou}[name](output, target, counts)


def is_plain(task: Task, shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape is one class for a whole sample, not one for every place of it."""
    return task == "classes" and len(shape) == 2


def suiting(task: Task, shape: tuple[int, ...]) -> tuple[MetricName, ...]:
    """Returns the metrics that an output of this shape can be measured by."""
    if task == "values":
        return ("psnr", "ssim", "rmse")
    if task == "mask":
        return ("dice", "iou", "accuracy")
    return ("accuracy", "f1") if is_plain(task, shape) else ("accuracy", "dice", "iou", "f1")


def metric_of(name: str) -> MetricName:
    """Returns the metric of a measure, whose name has that of an output before it where several train."""
    return cast(MetricName, name.rpartition(" ")[2])


def worsening(name: str, start: float, now: float) -> float:
    """Returns by how much a measure has become worse; negative if it is better."""
    return now - start if metric_of(name) in SMALLER_IS_BETTER else start - now


def is_better(name: str, now: Optional[float], best: Optional[float]) -> bool:
    """Whether a measure, or the loss, is better than another value of it.

    None is an infinite psnr, and of any other measure that there was nothing to measure, which is never better.
    """
    return _rank(name, now) > _rank(name, best)


def _rank(name: str, value: Optional[float]) -> float:
    if value is None:
        return math.inf if metric_of(name) == "psnr" else -math.inf
    return -value if metric_of(name) in SMALLER_IS_BETTER or metric_of(name) == LOSS else value


def require_metrics(names: tuple[MetricName, ...], task: Task, shape: tuple[int, ...]) -> None:
    """Checks that metrics can be taken of an output.

    Args:
        names: which.
        task: what the output is compared with.
        shape: of the output, with the axis of samples and that of channels.

    Raises:
        DataError: they cannot.
    """
    for name in names:
        suits = suiting(task, shape)
        if name not in suits:
            why = "does not suit this loss"
            if is_plain(task, shape) and name in ("dice", "iou"):
                why = "compares regions, and here every sample is of one class"
            raise DataError(f"the metric {name} {why}; expected {', '.join(suits)}: choose another of `metrics`")
    if "ssim" in names and not takes_ssim(shape):
        raise DataError(
            f"the metric ssim needs at least {WINDOW} elements along every axis of an image, found an output of shape "
            f"{list(shape)}",
            remedy="choose another of `metrics`",
        )


def takes_ssim(shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape has axes for the window of SSIM, and they are long enough."""
    return len(shape) > 2 and min(shape[2:]) >= WINDOW


def _mean(values: Array, counts: Optional[Array]) -> NDArray[np.float64]:
    """Returns the mean of every sample; NaN where nothing counts."""
    axes = tuple(range(1, values.ndim))
    if counts is None:
        plain: NDArray[np.float64] = np.mean(values, axis=axes)
        return plain
    weights = counts.astype(np.float64)
    with np.errstate(invalid="ignore"):
        weighted: NDArray[np.float64] = (values * weights).sum(axis=axes) / weights.sum(axis=axes)
    return weighted


def _rmse(output: Array, target: Array, counts: Optional[Array]) -> NDArray[np.float64]:
    root: NDArray[np.float64] = np.sqrt(_mean(np.square(output.astype(np.float64) - target), counts))
    return root


def _ssim(output: Array, target: Array, data_range: float) -> NDArray[np.float64]:
    x, y = output.astype(np.float64), target.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    xx, yy, xy = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2, _blur(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * xy + c2) / ((mean_x**2 + mean_y**2 + c1) * (xx + yy + c2))
    result: NDArray[np.float64] = similarity.mean(axis=tuple(range(1, x.ndim)))
    return result


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns local means under the window, along all axes but those of samples and channels, where it fits inside."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in range(2, values.ndim):
        size = values.shape[axis] - WINDOW + 1
        parts = [np.take(values, np.arange(i, i + size), axis) * weight for i, weight in enumerate(weights)]
        values = np.sum(parts, axis=0)
    return values


def _accuracy(output: Array, target: Array, counts: Optional[Array]) -> NDArray[np.float64]:
    return _mean(output == target, counts)


def _dice(output: Array, target: Array, counts: Optional[Array]) -> NDArray[np.float64]:
    return _over_samples(output, target, counts, lambda both, a, b: 2 * both / (a + b))


def _iou(output: Array, target: Array, counts: Optional[Array]) -> NDArray[np.float64]:
    return _over_samples(output, target, counts, lambda both, a, b: both / (a + b - both))


def _over_samples(
    output: Array, target: Array, counts: Optional[Array], overlap: Callable[[float, float, float], float]
) -> NDArray[np.float64]:
    """Returns for every sample the mean of an overlap over classes; NaN where nothing counts."""
    weights = np.ones(output.shape, bool) if counts is None else counts
    found = []
    for a, b, weight in zip(output, target, weights):
        values = [overlap(*sizes) if sizes[1] + sizes[2] else 1.0 for sizes in _sizes(a, b, weight)]
        found.append(float(np.mean(values)) if values else float("nan"))
    return np.array(found)


def _sizes(a: Array, b: Array, weight: Array) -> Iterator[tuple[float, float, float]]:
    """Yields for every class how much of it is in both, in A and in B; nothing where nothing counts."""
    a, b, weight = a[weight > 0], b[weight > 0], weight[weight > 0]
    if not weight.size:
        return
    classes = [True] if a.dtype == bool else sorted({*np.unique(a).tolist(), *np.unique(b).tolist()})
    for number in classes:
        in_a, in_b = a == number, b == number
        yield float(weight[in_a & in_b].sum()), float(weight[in_a].sum()), float(weight[in_b].sum())
