"""The gradient of filters with strides 1, in few large products.

    dW[m, c, i, j] = sum over samples n and places (h, w) of  dY[n, m, h, w]  X[n, c, h + i d - pad, w + j d - pad]

Of the side that has fewer channels, all shifts along the first axis of space are put beside one another, by one Gather; the
other side is shifted along the other axes. So a kernel of 3 x 3 takes three products, each of three times as many rows, and
seven copies, where nine products would take ten: and what costs in a product of this form is to pack the right factor.

    rows    3 shifts of dY along h,   (3 M, places)
    moved   X, shifted along w,       (C, places)         dW[., ., :, j] = rows moved^T

Every line of both sides ends in a gap of zeros, as wide as the shift along w needs; there is nothing else to cut or to pad.
Where one side has very few channels, all its shifts are put beside one another, and the other side is left as it is. Measured
(onnxruntime 1.32, one core with AVX-512, 2 x 64 x 64 x 64, milliseconds): 64 filters by 64 maps 7.0, in nine products 8.3,
ConvGrad of onnxruntime-training 8.6; 19 of 64 filters 2.3, 3.0 and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.rules.geometry import Window
from tgdonnx.gradients.shapes import known_size
from tgdonnx.graphs.builder import Builder

# So many rows make a product efficient; more shifts beside one another only take memory.
_ROWS = 192
_LEAST_SHIFTS = 3
# Up to so many rows, all shifts of one side are cheaper than any of the other.
_FEW = 64
_END = 2**31 - 1
# Places of a longer axis are numbered while the model runs.
_MOST_STORED = 2**12


@dataclass(frozen=True)
class Side:
    """One of the factors: the input of a Conv, or the gradient of its output.

    Attributes:
        value: (samples, group * channels, *space).
        channels: of each group.
        sign: in which direction the kernel moves over it.
        begins: elements in front of the first one along the first axis that the kernel sees.
        ends: those behind the last one.
        gaps: zeros behind the lines along each other axis.
    """

    value: ir.Value
    channels: int
    sign: int
    begins: int
    ends: int
    gaps: tuple[int, ...]


def takes(window: Window) -> bool:
    """Whether the products give the gradient of filters that slide so."""
    return not window.may_leave_out and min(window.turned_pads) >= 0


def shifted_products(
    build: Builder, x: ir.Value, dy: ir.Value, window: Window, group: int, shape: tuple[int, ...]
) -> ir.Value:
    """Returns the gradient of filters.

    Args:
        build: writes nodes.
        x: the input, (samples, group * maps, *space).
        dy: the gradient of the output, (samples, filters, *space).
        window: how the filters slide: as `takes` says.
        group: as in Conv.
        shape: of the filters: (filters, maps, *kernel).
    """
    filters, maps, *kernel = shape
    rank = len(kernel)
    begins, ends, reach = window.pads[:rank], window.pads[rank:], window.reach
    gaps = [max(begin, end) for begin, end in zip(begins, ends)]
    more = tuple(gap + far - begin - end for gap, far, begin, end in zip(gaps, reach, begins, ends))
    along = 1 if rank > 1 else 0  # of one axis alone the elements would be gathered one by one
    inputs = Side(x, maps, 1, begins[0], ends[0], tuple(gaps[along:]))
    outputs = Side(dy, filters // group, -1, reach[0] - begins[0], reach[0] - ends[0], more[along:])
    by_outputs = outputs.channels <= maps
    rows, moved = (outputs, inputs) if by_outputs else (inputs, outputs)
    if group == 1 and rows.channels * prod(kernel) <= _FEW:
        return _one_product(build, rows, moved, window, shape)
    padded = _pad(
        build, rows.value, [rows.begins] * along + [0] * len(rows.gaps), [rows.ends] * along + list(rows.gaps)
    )
    others = [_matrix(build, each, group, moved.channels) for each in _moved(build, moved, window, along)]
    found = []
    for shifts in _bundles(kernel[0] if along else 1, rows.channels):
        gathered = _gathered(build, padded, rows, moved.value, shifts, window) if along else padded
        left = _matrix(build, gathered, group, rows.channels * len(shifts))
        perm = [0, 2, 1] if group == 1 else [0, 1, 3, 2]
        products = [
            build.sum(build("MatMul", left, build("Transpose", right, perm=perm)), [0], keepdims=False)
            for right in others
        ]
        beside = products[0] if len(products) == 1 else build("Concat", *products, axis=-1)
        found.append(build.reshape(beside, [group, rows.channels, len(shifts), prod(kernel[along:]), moved.channels]))
    whole = found[0] if len(found) == 1 else build("Concat", *found, axis=2)
    whole = build("Transpose", whole, perm=[0, 1, 4, 2, 3] if by_outputs else [0, 4, 1, 2, 3])
    return build.reshape(whole, shape)


def _one_product(build: Builder, few: Side, other: Side, window: Window, shape: tuple[int, ...]) -> ir.Value:
    """The same with all shifts of one side beside one another, and the other as it is."""
    rank, along = len(window.kernel), min(len(window.kernel) - 1, 1)
    pads = window.pads if few.sign > 0 else window.turned_pads
    padded = _pad(build, few.value, pads[:rank], pads[rank:])
    shifts = []
    axes = [along + 2 + axis for axis in range(rank - along)]
    for element in product(*(range(size) for size in window.kernel[along:])):
        starts = [
            i * dilation if few.sign > 0 else reach - i * dilation
            for i, dilation, reach in zip(element, window.dilations[along:], window.reach[along:])
        ]
        ends = [start - reach or _END for start, reach in zip(starts, window.reach[along:])]
        whole = not any(window.reach[along:])
        shifts.append(
            padded if whole else build("Slice", padded, *(build.ints(*each) for each in (starts, ends, axes)))
        )
    beside = shifts[0] if len(shifts) == 1 else build("Concat", *shifts, axis=1)
    first = range(window.kernel[0] if along else 1)
    if along:
        beside = _gathered(build, beside, few, other.value, first, window)
    left = _matrix(build, beside, 1, len(shifts) * few.channels * len(first))
    right = build("Transpose", _matrix(build, other.value, 1, other.channels), perm=[0, 2, 1])
    found = build.sum(build("MatMul", left, right), [0], keepdims=False)
    found = build.reshape(found, [len(shifts), few.channels, len(first), other.channels])
    return build.reshape(build("Transpose", found, perm=[1, 3, 2, 0] if few.sign < 0 else [3, 1, 2, 0]), shape)


def _bundles(size: int, channels: int) -> Iterator[range]:
    """Yields which shifts along the first axis go into one product."""
    count = max(_LEAST_SHIFTS, _ROWS // channels)
    yield from (range(first, min(first + count, size)) for first in range(0, size, count))


def _gathered(build: Builder, padded: ir.Value, side: Side, like: ir.Value, shifts: range, window: Window) -> ir.Value:
    """Returns the shifts along the first axis, each as long as another value is there, (.., channels, shifts, places)."""
    reach, dilation = window.reach[0], window.dilations[0]
    if reach == 0:
        return padded
    starts = np.array([i * dilation if side.sign > 0 else reach - i * dilation for i in shifts], np.int64)[:, None]
    size = known_size(like, 2)
    if size is not None and size <= _MOST_STORED:
        return build("Gather", padded, build.constant(starts + np.arange(size)), axis=2)
    length = build("Squeeze", build("Shape", like, start=2, end=3))
    places = build("Range", build.constant(np.array(0, np.int64)), length, build.constant(np.array(1, np.int64)))
    return build("Gather", padded, build("Add", places, build.constant(starts)), axis=2)


def _moved(build: Builder, side: Side, window: Window, along: int) -> Iterator[ir.Value]:
    """Yields a side shifted to each element of the kernel along all axes but the first, with the gaps."""
    rank = len(window.kernel)
    for element in product(*(range(size) for size in window.kernel[along:])):
        steps = [
            side.sign * (i * dilation - pad)
            for i, dilation, pad in zip(element, window.dilations[along:], window.pads[along:rank])
        ]
        yield _pad_or_cut(
            build,
            side.value,
            [0] * along + [-s for s in steps],
            [0] * along + [g + s for g, s in zip(side.gaps, steps)],
        )


def _pad_or_cut(build: Builder, value: ir.Value, begins: Sequence[int], ends: Sequence[int]) -> ir.Value:
    """Returns a value padded along the axes of space, and cut off where a number is negative.

    Pad cuts off too, but gives wrong numbers, or refuses, where nothing is left of an axis (onnxruntime 1.19.2). Where that may
    be, which is also where a size is open, Slice cuts off what was padded before.
    """
    axes = []
    for axis, (begin, end) in enumerate(zip(begins, ends)):
        cut, size = -min(begin, end), known_size(value, axis + 2)
        if cut > 0 and (size is None or cut >= size):
            axes.append(axis)
    wide = [
        [max(amount, 0) if axis in axes else amount for axis, amount in enumerate(amounts)]
        for amounts in (begins, ends)
    ]
    padded = _pad(build, value, *wide)
    if not axes:
        return padded
    starts, stops = [max(-begins[axis], 0) for axis in axes], [min(ends[axis], 0) or _END for axis in axes]
    return build("Slice", padded, build.ints(*starts), build.ints(*stops), build.ints(*(axis + 2 for axis in axes)))


def _pad(build: Builder, value: ir.Value, begins: Sequence[int], ends: Sequence[int]) -> ir.Value:
    """Returns a value padded along the axes of space."""
    if not any((*begins, *ends)):
        return value
    return build("Pad", value, build.ints(0, 0, *begins, 0, 0, *ends))


def _matrix(build: Builder, value: ir.Value, group: int, rows: int) -> ir.Value:
    """Returns (samples, rows, places), or with groups (samples, group, rows, places)."""
    return build.reshape(value, [0, *([group] if group > 1 else []), rows, -1])
