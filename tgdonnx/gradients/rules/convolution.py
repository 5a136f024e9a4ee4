"""Conv and ConvTranspose.

    Y = Conv(X, W):   dX = ConvTranspose(dY, W), or with strides 1 a Conv of dY with turned filters
                      dW: see `tgdonnx.gradients.rules.filter_gradient`
                      dB = sum(dY) over samples and places
    Y = ConvTranspose(X, W):   dX = Conv(dY, W),   and dW is that of this Conv: X and dY exchange their roles

A Conv with turned filters takes 0.7 of the time of a ConvTranspose (onnxruntime 1.32, 64 to 64 filters on 64 x 64 places,
2 cores), and filters that are constant are turned here, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.demand import Demand
from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.rules.filter_gradient import Convolution, filter_gradient
from tgdonnx.gradients.rules.geometry import Window, crop_like, filter_sizes
from tgdonnx.graphs.constants import known_array


@rule("Conv")
def _conv(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    shape, group = filter_sizes(step), step.node.attributes.get_int("group", 1)
    window = Window.of(step, shape[2:])
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = _input_gradient(step, window, group, shape)
    if step.wants(1):
        conv = Convolution(step.x, step.dy, step.y, window, group, shape)
        found[1] = [filter_gradient(build, conv, part) for part in step.demand(1)]
    if step.wants(2):
        found[2] = _bias_gradient(step, step.demand(2), len(window.kernel))
    return found


@rule("ConvTranspose")
def _conv_transpose(step: Step) -> Mapping[int, Gradient]:
    build, weight = step.build, step.input(1)
    shape = filter_sizes(step)
    attributes, group = step.node.attributes, step.node.attributes.get_int("group", 1)
    if "output_shape" in attributes or (attributes.get_string("auto_pad", "NOTSET") or "NOTSET") != "NOTSET":
        raise step.refusal("leaves its pads to the runtime", "this is lowered before")
    window = Window.of(step, shape[2:])
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = build(
            "Conv",
            step.dy,
            weight,
            kernel_shape=list(window.kernel),
            strides=list(window.strides),
            dilations=list(window.dilations),
            pads=list(window.pads),
            group=group,
        )
    if step.wants(1):
        conv = Convolution(step.dy, step.x, step.x, window, group, shape)
        found[1] = [filter_gradient(build, conv, part) for part in step.demand(1)]
    if step.wants(2):
        found[2] = _bias_gradient(step, step.demand(2), len(window.kernel))
    return found


def _bias_gradient(step: Step, demand: Demand, rank: int) -> Sequence[ir.Value]:
    build, axes = step.build, [0, *range(2, 2 + rank)]
    whole = build.sum(step.dy, axes, keepdims=False)
    parts = []
    for part in demand:
        along = part.along(0)
        parts.append(whole if along is None else build.take(whole, along, 0))
    return parts


def _input_gradient(step: Step, window: Window, group: int, shape: tuple[int, ...]) -> Gradient:
    """Returns dX, or, where only some channels are wanted and there are no groups, the gradients of these."""
    demand = step.demand(0)
    some = group == 1 and len(demand) == 1 and [axis for axis, _ in demand[0].indices] == [1]
    channels = demand[0].along(1) if some else None
    if not window.may_leave_out and min(window.turned_pads) >= 0:
        spread = step.build(
            "Conv",
            step.dy,
            _turned(step, group, shape, channels),
            kernel_shape=list(window.kernel),
            dilations=list(window.dilations),
            pads=list(window.turned_pads),
            group=group,
        )
    else:
        weight = step.input(1)
        weight = weight if channels is None else step.build.take(weight, channels, 1)
        spread = window.transposed(step.build, step.dy, weight, group=group)
        if window.may_leave_out:
            spread = crop_like(step.build, spread, step.x, len(window.kernel))
    return spread if channels is None else [spread]


def _turned(step: Step, group: int, shape: tuple[int, ...], channels: Optional[tuple[int, ...]]) -> ir.Value:
    """Returns the filters turned by 180 degrees, with the axes of filters and maps exchanged in each group."""
    build, (filters, maps, *kernel) = step.build, shape
    rank = len(kernel)
    apart = (group, filters // group, maps, *kernel)
    array = None if step.wants(1) else known_array(step.input(1))
    if array is not None:
        array = array if channels is None else np.take(array, channels, 1)
        swapped = array.reshape(apart[0], apart[1], -1, *kernel).swapaxes(1, 2).reshape(-1, filters // group, *kernel)
        return build.constant(np.ascontiguousarray(np.flip(swapped, tuple(range(2, 2 + rank)))))
    value = step.input(1) if channels is None else build.take(step.input(1), channels, 1)
    if group == 1:
        value = build("Transpose", value, perm=[1, 0, *range(2, 2 + rank)])
    else:
        value = build("Reshape", value, build.ints(*apart))
        value = build("Transpose", value, perm=[0, 2, 1, *range(3, 3 + rank)])
        value = build("Reshape", value, build.ints(group * maps, filters // group, *kernel))
    for axis, size in enumerate(kernel, start=2):
        if size > 1:
            value = build("Gather", value, build.ints(*range(size - 1, -1, -1)), axis=axis)
    return value
