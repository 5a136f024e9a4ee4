"""Losses with parameters, by their formulas, place by place in float64 numpy; it shares nothing with tgdonnx.

Outputs are logits with the axis of classes as axis 1; targets of classes are indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def weighted_mean(elements: Array, weight: Optional[Array]) -> float:
    """The mean of elements, by their weights; 0 where nothing counts."""
    weights = np.ones(elements.shape) if weight is None else np.broadcast_to(weight, elements.shape).astype(np.float64)
    return float((elements * weights).sum() / weights.sum()) if weights.sum() else 0.0


def huber(y: Array, t: Array, delta: float = 1.0, weight: Optional[Array] = None) -> float:
    """Half the square inside, a line outside."""
    e = np.abs(y - t)
    return weighted_mean(np.where(e <= delta, e**2 / 2, delta * (e - delta / 2)), weight)


def pinball(y: Array, t: Array, q: float = 0.5, weight: Optional[Array] = None) -> float:
    """The tilted absolute value."""
    return weighted_mean(np.where(t >= y, q * (t - y), (1 - q) * (y - t)), weight)


def mse(y: Array, t: Array, weight: Optional[Array] = None) -> float:
    """The mean square."""
    return weighted_mean((y - t) ** 2, weight)


def probabilities(x: Array) -> Array:
    """Softmax over axis 1."""
    shifted = np.exp(x - x.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def focal(
    x: Array, t: Array, gamma: float = 2.0, alpha: Optional[float] = None, weight: Optional[Array] = None
) -> float:
    """Of two classes."""
    p = 1 / (1 + np.exp(-x))
    ones, zeros = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    loss = -ones * t * (1 - p) ** gamma * np.log(p) - zeros * (1 - t) * p**gamma * np.log(1 - p)
    return weighted_mean(loss, weight)


def dice(p: Array, t: Array, smooth: float = 1.0) -> float:
    """Of probabilities and targets of one shape."""
    ratios = []
    for sample in range(p.shape[0]):
        for channel in range(p.shape[1]):
            a, b = p[sample, channel], t[sample, channel]
            ratios.append((2 * (a * b).sum() + smooth) / (a.sum() + b.sum() + smooth))
    return float(1 - np.mean(ratios))


def places(x: Array, t: Array, ignore: Optional[int]) -> Iterator[tuple[Array, int]]:
    """The probabilities and the label of every place that counts."""
    p = np.moveaxis(probabilities(x), 1, -1)
    for index in np.ndindex(t.shape):
        if t[index] != ignore:
            yield p[index], int(t[index])


def ce(
    x: Array,
    t: Array,
    ignore: Optional[int] = None,
    weights: Optional[Sequence[float]] = None,
    smoothing: float = 0.0,
    damped: Callable[[float], float] = lambda _: 1.0,
) -> float:
    """Cross-entropy; ``damped`` is a factor by the probability of the label."""
    classes = x.shape[1]
    w = np.ones(classes) if weights is None else np.array(weights, np.float64)
    total = counted = 0.0
    for p, label in places(x, t, ignore):
        total -= (1 - smoothing) * w[label] * damped(float(p[label])) * np.log(p[label])
        total -= smoothing / classes * float((w * np.log(p)).sum())
        counted += w[label]
    return total / counted if counted else 0.0


def class_dice(x: Array, t: Array, smooth: float = 1.0, ignore: Optional[int] = None) -> float:
    """Of classes."""
    valid = (t != ignore)[:, None] if ignore is not None else np.ones(t.shape, bool)[:, None]
    one_hot = np.stack([t == label for label in range(x.shape[1])], 1)
    return dice(probabilities(x) * valid, one_hot * valid, smooth)


def slopes(loss: Callable[[Array], float], x: Array) -> Array:
    """Central differences."""
    x, found = x.astype(np.float64), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-6
        found[index] = (loss(x + step) - loss(x - step)) / 2e-6
    return found
