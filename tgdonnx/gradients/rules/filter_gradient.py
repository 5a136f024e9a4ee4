"""The gradient of filters: products of what went in, shifted, with the gradient of what came out.

    dW[m, c, i, j] = sum over samples n and places p of  dY[n, m, p]  X[n, c, p s + (i, j) d - pad]

For every element (i, j) of the kernel that is one product of two matrices: the maps of dY by places, and the channels of X,
shifted by (i, j), by places. With strides 1 several are done at once (`tgdonnx.gradients.rules.shifted_products`). Of filters
that do not train dY is not even read, so the cost follows what trains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.demand import Part
from tgdonnx.gradients.rules.geometry import Window
from tgdonnx.gradients.rules.shifted_products import shifted_products, takes
from tgdonnx.gradients.shapes import known_size
from tgdonnx.graphs.builder import Builder


@dataclass(frozen=True)
class Convolution:
    """A Conv, with the gradient of its output.

    Attributes:
        x: the input, (samples, group * maps, *space).
        dy: the gradient of the output, (samples, filters, *space).
        like: a value of the graph with the shape of ``dy``.
        window: how the filters slide.
        group: as in Conv.
        shape: of the filters: (filters, maps, *kernel).
    """

    x: ir.Value
    dy: ir.Value
    like: ir.Value
    window: Window
    group: int
    shape: tuple[int, ...]


def filter_gradient(build: Builder, conv: Convolution, part: Part) -> ir.Value:
    """Returns the gradient of a part of the filters.

    Args:
        build: writes nodes.
        conv: the convolution.
        part: rows are filters, columns the maps that they read; elements of the kernel are wanted all.
    """
    rows, columns = part.along(0), part.along(1)
    assert set(dict(part.indices)) <= {0, 1}, "single elements of a kernel do not train alone"
    filters = conv.shape[0]
    if rows is not None:
        conv = _of_rows(build, conv, np.array(rows))
        filters = len(rows)
    if columns is not None:
        if conv.group == 1:
            conv = replace(conv, x=build.take(conv.x, columns, 1), shape=(filters, len(columns), *conv.shape[2:]))
        else:
            return build.take(_whole(build, conv), columns, 1)
    return _whole(build, conv)


def _of_rows(build: Builder, conv: Convolution, rows: np.ndarray) -> Convolution:
    """Returns the convolution of some filters alone; of a grouped one, each becomes a group with its own copy of its maps."""
    filters, maps, *kernel = conv.shape
    dy, x, group = build.take(conv.dy, rows.tolist(), 1), conv.x, conv.group
    if group > 1:
        first = rows // (filters // group) * maps
        x = build.take(x, (first[:, None] + np.arange(maps)).reshape(-1).tolist(), 1)
        group = len(rows)
    return replace(conv, dy=dy, x=x, group=group, shape=(len(rows), maps, *kernel))


def _whole(build: Builder, conv: Convolution) -> ir.Value:
    filters, maps = conv.shape[:2]
    if conv.group > 1 and maps == 1 and filters == conv.group:
        return _depthwise(build, conv)
    if takes(conv.window):
        return shifted_products(build, conv.x, conv.dy, conv.window, conv.group, conv.shape)
    return _by_shifted_inputs(build, conv)


def _by_shifted_inputs(build: Builder, conv: Convolution) -> ir.Value:
    """Products of dY, (filters, places), with the transposed of X, (places, maps), for each element of the kernel."""
    filters, maps = conv.shape[:2]
    group = conv.group
    dy = _by_places(build, conv.dy, group, filters // group)
    products = []
    for shifted in _shifts(build, conv):
        x = _by_places(build, shifted, group, maps)
        perm = [0, 2, 1] if group == 1 else [0, 1, 3, 2]
        products.append(build.sum(build("MatMul", dy, build("Transpose", x, perm=perm)), [0], keepdims=False))
    return _by_elements(build, products, conv.shape)


def _depthwise(build: Builder, conv: Convolution) -> ir.Value:
    """A filter for each channel: nothing to multiply as matrices, elements are multiplied and summed."""
    rank = len(conv.window.kernel)
    axes = [0, *range(2, 2 + rank)]
    sums = [build.sum(build("Mul", conv.dy, shifted), axes, keepdims=False) for shifted in _shifts(build, conv)]
    columns = [build("Unsqueeze", each, build.ints(1)) for each in sums]
    table = columns[0] if len(columns) == 1 else build("Concat", *columns, axis=1)
    return build("Reshape", table, build.ints(*conv.shape))


def _shifts(build: Builder, conv: Convolution) -> list[ir.Value]:
    """Returns what each element of the kernel sees of X, in the shape of dY."""
    window, rank = conv.window, len(conv.window.kernel)
    if max(window.kernel) == 1 and max(window.strides) == 1 and not any(window.pads):
        return [conv.x]
    padded = _padded(build, conv.x, window.pads, rank)
    found = []
    for element in product(*(range(size) for size in window.kernel)):
        starts = [i * dilation for i, dilation in zip(element, window.dilations)]
        found.append(_stretch(build, padded, starts, window.strides, conv.like, rank))
    return found


def _padded(build: Builder, value: ir.Value, pads: tuple[int, ...], rank: int) -> ir.Value:
    if not any(pads):
        return value
    return build("Pad", value, build.ints(0, 0, *pads[:rank], 0, 0, *pads[rank:]))


def _stretch(
    build: Builder, value: ir.Value, starts: list[int], strides: tuple[int, ...] | list[int], like: ir.Value, rank: int
) -> ir.Value:
    """Slices as many places along each axis of space as another value has there."""
    sizes: list[Optional[int]] = [known_size(like, axis + 2) for axis in range(rank)]
    axes, steps = build.ints(*range(2, rank + 2)), build.ints(*strides)
    if all(size is not None for size in sizes):
        ends = build.ints(
            *(start + ((size or 0) - 1) * stride + 1 for start, size, stride in zip(starts, sizes, strides))
        )
    else:
        # start + (size - 1) stride + 1
        first = build.ints(*(start - stride + 1 for start, stride in zip(starts, strides)))
        ends = build("Add", build("Mul", build("Shape", like, start=2), steps), first)
    return build("Slice", value, build.ints(*starts), ends, axes, steps)


def _by_places(build: Builder, value: ir.Value, group: int, channels: int) -> ir.Value:
    """Returns (samples, channels, places), or with groups (samples, group, channels of each, places)."""
    return build("Reshape", value, build.ints(0, *([group] if group > 1 else []), channels, -1))


def _by_elements(build: Builder, products: list[ir.Value], shape: tuple[int, ...]) -> ir.Value:
    """Puts what each element of the kernel got, (filters, maps), behind one another, and into the shape of the filters."""
    if len(products) == 1:
        return build("Reshape", products[0], build.ints(*shape))
    columns = [build("Unsqueeze", each, build.ints(-1)) for each in products]
    return build("Reshape", build("Concat", *columns, axis=-1), build.ints(*shape))
