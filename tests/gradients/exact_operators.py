"""Operators that ONNX's reference computes in float32, or gets wrong; here in the precision of their inputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


class Erf(OpRun):
    op_domain = ""

    def _run(self, x: Any) -> Any:
        return (np.vectorize(math.erf, otypes=[np.float64])(x),)


class Gelu(OpRun):
    op_domain = ""

    def _run(self, x: Any, approximate: str = "none") -> Any:
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / np.sqrt(2))),)


class ConvTranspose(OpRun):
    """With groups."""

    op_domain = ""

    def _run(
        self,
        x: Any,
        w: Any,
        b: Any = None,
        auto_pad: Any = None,
        dilations: Any = None,
        group: Any = None,
        kernel_shape: Any = None,
        output_padding: Any = None,
        output_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> Any:
        rank, group = x.ndim - 2, group or 1
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        pads, more, kernel = pads or [0] * 2 * rank, output_padding or [0] * rank, w.shape[2:]
        maps, each = x.shape[1] // group, w.shape[1]
        full = [(x.shape[2 + d] - 1) * strides[d] + dilations[d] * (kernel[d] - 1) + 1 + more[d] for d in range(rank)]
        y = np.zeros((x.shape[0], each * group, *full), x.dtype)
        for g in range(group):
            xs, ws = x[:, g * maps : (g + 1) * maps], w[g * maps : (g + 1) * maps]
            for place in np.ndindex(*kernel):
                where = tuple(
                    slice(
                        place[d] * dilations[d],
                        place[d] * dilations[d] + (x.shape[2 + d] - 1) * strides[d] + 1,
                        strides[d],
                    )
                    for d in range(rank)
                )
                part = np.einsum("ni...,io->no...", xs, ws[(slice(None), slice(None), *place)])
                y[(slice(None), slice(g * each, (g + 1) * each), *where)] += part
        y = y[(slice(None), slice(None), *(slice(pads[d], y.shape[2 + d] - pads[d + rank]) for d in range(rank)))]
        return (y if b is None else y + b.reshape(1, -1, *[1] * rank),)


class MaxPool(OpRun):
    """With dilations, pads and strides together; windows that reach beyond the end are left out."""

    op_domain = ""

    def _run(
        self,
        x: Any,
        auto_pad: Any = None,
        ceil_mode: Any = None,
        dilations: Any = None,
        kernel_shape: Any = None,
        pads: Any = None,
        storage_order: Any = None,
        strides: Any = None,
    ) -> Any:
        rank = x.ndim - 2
        strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, pads or [0] * 2 * rank
        margins = [(0, 0), (0, 0), *((pads[d], pads[d + rank]) for d in range(rank))]
        padded = np.pad(x, margins, constant_values=-np.inf)
        reach = [(kernel_shape[d] - 1) * dilations[d] for d in range(rank)]
        sizes = [(padded.shape[2 + d] - reach[d] - 1) // strides[d] + 1 for d in range(rank)]
        shifted = [
            padded[
                (
                    slice(None),
                    slice(None),
                    *(
                        slice(i[d] * dilations[d], i[d] * dilations[d] + (sizes[d] - 1) * strides[d] + 1, strides[d])
                        for d in range(rank)
                    ),
                )
            ]
            for i in np.ndindex(*kernel_shape)
        ]
        return (np.max(shifted, axis=0),)


class Mean(OpRun):
    """With broadcasting in both directions."""

    op_domain = ""

    def _run(self, *arrays: Any) -> Any:
        return (np.asarray(sum(arrays) / len(arrays)),)


class Pad(OpRun):
    """Of all axes, or with a constant; negative sizes cut off then."""

    op_domain = ""

    def _run(self, x: Any, pads: Any, value: Any = None, axes: Any = None, mode: Any = None) -> Any:
        if mode not in (None, "constant"):
            return (np.pad(x, np.reshape(pads, (2, -1)).T, mode=mode),)
        axes = list(range(x.ndim)) if axes is None else [int(axis) % x.ndim for axis in axes]
        for place, axis in enumerate(axes):
            begin, end = int(pads[place]), int(pads[place + len(axes)])
            x = np.take(x, range(max(-begin, 0), x.shape[axis] - max(-end, 0)), axis)
            margins = [(0, 0)] * x.ndim
            margins[axis] = (max(begin, 0), max(end, 0))
            x = np.pad(x, margins, constant_values=0 if value is None else value)
        return (x,)


class LRN(OpRun):
    op_domain = ""

    def _run(self, x: Any, alpha: Any = None, beta: Any = None, bias: Any = None, size: Any = None) -> Any:
        down, up = (size - 1) // 2, size // 2
        windows = [(x[:, max(c - down, 0) : c + up + 1] ** 2).sum(axis=1) for c in range(x.shape[1])]
        return (x / (bias + alpha / size * np.stack(windows, axis=1)) ** beta,)


class LpNormalization(OpRun):
    op_domain = ""

    def _run(self, x: Any, axis: Any = None, p: Any = None) -> Any:
        return (x / np.linalg.norm(x, ord=p, axis=axis, keepdims=True),)


class MeanVarianceNormalization(OpRun):
    op_domain = ""

    def _run(self, x: Any, axes: Any = None) -> Any:
        axes = tuple(axes)
        deviation = np.sqrt((x**2).mean(axes, keepdims=True) - x.mean(axes, keepdims=True) ** 2)
        return ((x - x.mean(axes, keepdims=True)) / (deviation + 1e-9),)


class GroupNormalization(OpRun):
    """With one scale for each channel, as from opset 21 on."""

    op_domain = ""

    def _run(self, x: Any, s: Any, b: Any, epsilon: Any = None, num_groups: Any = None, stash_type: Any = None) -> Any:
        apart = x.reshape(x.shape[0], num_groups, -1)
        normal = (apart - apart.mean(2, keepdims=True)) / np.sqrt(apart.var(2, keepdims=True) + epsilon)
        column = (-1, *[1] * (x.ndim - 2))
        return (normal.reshape(x.shape) * s.reshape(column) + b.reshape(column),)


class GlobalMaxPool(OpRun):
    """Of any number of axes of space."""

    op_domain = ""

    def _run(self, x: Any) -> Any:
        return (x.max(tuple(range(2, x.ndim)), keepdims=True),)


class BatchNormalization(OpRun):
    """For inference, of every opset."""

    op_domain = ""

    def _run(self, x: Any, s: Any, b: Any, m: Any, v: Any, epsilon: Any = None, **others: Any) -> Any:
        column = (-1, *[1] * (x.ndim - 2))
        s, b, m, v = (each.reshape(column) for each in (s, b, m, v))
        return ((x - m) / np.sqrt(v + (1e-5 if epsilon is None else epsilon)) * s + b,)


ALL = [
    BatchNormalization,
    Erf,
    Gelu,
    ConvTranspose,
    MaxPool,
    Mean,
    Pad,
    LRN,
    LpNormalization,
    MeanVarianceNormalization,
    GroupNormalization,
    GlobalMaxPool,
]
