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
there: the batch and channel axes become one, and no Conv has groups (of those in 3-D the runtime's gradient is wrong).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.builder import Builder

WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def ssim(pen: Builder, y: ir.Value, t: ir.Value, data_range: float) -> ir.Value:
    """Writes 1 - mean SSIM of an output of known rank."""
    assert y.shape is not None
    rank = len(y.shape) - 2
    apart = pen.constant(np.array([-1, 1, *(0,) * rank], np.int64))  # 0: as it was
    y, t = pen("Reshape", y, apart), pen("Reshape", t, apart)
    level = pen("ReduceMean", t, keepdims=0)
    y, t, d = pen("Sub", y, level), pen("Sub", t, level), pen("Sub", y, t)
    windows = _windows(pen, rank)

    def mean(value: ir.Value) -> ir.Value:
        for window in windows:
            value = pen("Conv", value, window)
        return value

    def squares(value: ir.Value, other: ir.Value) -> ir.Value:
        return pen("Add", pen("Mul", value, value), pen("Mul", other, other))

    mean_d, mean_t = mean(d), mean(t)
    mean_y = pen("Add", mean_t, mean_d)
    square_d = pen("Mul", mean_d, mean_d)
    brightness = squares(pen("Add", mean_y, level), pen("Add", mean_t, level))
    a = pen("Div", square_d, pen("Add", brightness, pen.scalar((_K1 * data_range) ** 2)))
    variance_d = pen("Sub", mean(pen("Mul", d, d)), square_d)
    variances = pen("Sub", mean(squares(y, t)), squares(mean_y, mean_t))
    b = pen("Div", variance_d, pen("Add", variances, pen.scalar((_K2 * data_range) ** 2)))
    return pen("ReduceMean", pen("Sub", pen("Add", a, b), pen("Mul", a, b)), keepdims=0)


def _windows(pen: Builder, rank: int) -> list[ir.Value]:
    """Returns for every axis of space a filter with the window along it."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    shapes = [[WINDOW if other == axis else 1 for other in range(rank)] for axis in range(rank)]
    return [pen.constant(weights.reshape(1, 1, *shape)) for shape in shapes]
