"""The structural similarity as a loss (Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing 13, 2004, eq. 13).

    SSIM = (2 m_y m_t + C1) (2 c_yt + C2) / ((m_y^2 + m_t^2 + C1) (v_y + v_t + C2)),   C1 = (0.01 R)^2, C2 = (0.03 R)^2

with the means m, variances v and covariance c under a Gaussian window of 11 elements and sigma 1.5 along every axis of space,
whose weights sum to 1, at every place where the window lies inside the image; R is the range of the data. The loss is one minus
the mean over places, channels and samples. Axis 0 counts samples, axis 1 channels, the others are space.

With the difference d = y - t it is computed as

    1 - SSIM = a + b - a b,   a = m_d^2 / (m_y^2 + m_t^2 + C1),   b = v_d / (v_y + v_t + C2)

which is the same, but keeps its digits in float32 where y is close to t, and is exactly 0 where they are equal. Variances are
taken of what is left without the mean of the targets, lest those of bright, even images drown in rounding.

The window is a product of one-dimensional ones, so a Conv per axis of space applies it. Every channel is an image of its own
there: the batch and channel axes become one, and no Conv has groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, final

import numpy as np
import onnx_ir as ir

from tgdonnx.artifacts.losses.function import Compared, LossFunction, Sizes, shown
from tgdonnx.graphs.builder import Builder

WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


@final
@dataclass(frozen=True)
class Ssim(LossFunction):
    """1 - mean SSIM."""

    name = "ssim"
    told = (
        "one minus the structural similarity, on signals, images or volumes with 11 or more elements along every axis; axis 1 "
        "counts channels, what follows is space"
    )
    is_ranged = True

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes; the output is of known rank."""
        return _ssim(builder, compared.y, compared.t, compared.data_range)

    def problem(self, sizes: Sizes, class_axis: int) -> Optional[str]:  # noqa: ARG002  # there are none
        """Returns why an output cannot be compared; see `LossFunction`."""
        return _problem(sizes)


def _ssim(builder: Builder, y: ir.Value, t: ir.Value, data_range: float) -> ir.Value:
    assert y.shape is not None
    rank = len(y.shape) - 2
    apart = builder.constant(np.array([-1, 1, *(0,) * rank], np.int64))  # 0: as it was
    y, t = builder("Reshape", y, apart), builder("Reshape", t, apart)
    level = builder("ReduceMean", t, keepdims=0)
    y, t, d = builder("Sub", y, level), builder("Sub", t, level), builder("Sub", y, t)
    windows = _windows(builder, rank)

    def mean(value: ir.Value) -> ir.Value:
        for window in windows:
            value = builder("Conv", value, window)
        return value

    def squares(value: ir.Value, other: ir.Value) -> ir.Value:
        return builder("Add", builder("Mul", value, value), builder("Mul", other, other))

    mean_d, mean_t = mean(d), mean(t)
    mean_y = builder("Add", mean_t, mean_d)
    square_d = builder("Mul", mean_d, mean_d)
    brightness = squares(builder("Add", mean_y, level), builder("Add", mean_t, level))
    a = builder("Div", square_d, builder("Add", brightness, builder.scalar((_K1 * data_range) ** 2)))
    variance_d = builder("Sub", mean(builder("Mul", d, d)), square_d)
    variances = builder("Sub", mean(squares(y, t)), squares(mean_y, mean_t))
    b = builder("Div", variance_d, builder("Add", variances, builder.scalar((_K2 * data_range) ** 2)))
    return builder("ReduceMean", builder("Sub", builder("Add", a, b), builder("Mul", a, b)), keepdims=0)


def _windows(builder: Builder, rank: int) -> list[ir.Value]:
    """Returns for every axis of space a filter with the window along it."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    shapes = [[WINDOW if other == axis else 1 for other in range(rank)] for axis in range(rank)]
    return [builder.constant(weights.reshape(1, 1, *shape)) for shape in shapes]


def _problem(sizes: Sizes) -> Optional[str]:
    if sizes is None:
        return (
            "the loss ssim needs an output of known rank; declare the shapes of the model's inputs, or use another loss"
        )
    if not 3 <= len(sizes) <= 5:
        return (
            "the loss ssim needs an output with the axes sample, channel, and one to three of space; "
            f"found {shown(sizes)}; use another loss"
        )
    if any(size is not None and size < WINDOW for size in sizes[2:]):
        return (
            f"the loss ssim needs an output of at least {WINDOW} along every axis of space, the size of its window; "
            f"found {shown(sizes)}; use larger images or patches, or another loss"
        )
    return None
