"""Operators whose arguments the runtime takes on trust: what is stored of them is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from tgdonnx.runtime.node_protos import NodeProtoView

_INT32 = 2**31 - 1
_MOST_BLOCK = 2**15  # it is squared


def _block(view: NodeProtoView) -> Iterator[str]:
    """DepthToSpace and SpaceToDepth divide by the square of the block, which can overflow to 0."""
    for size in view.integers("blocksize") or ():
        if not 1 <= size <= _MOST_BLOCK:
            yield f"has blocksize {size}; expected 1 to {_MOST_BLOCK}"


def _groups(view: NodeProtoView) -> Iterator[str]:
    """GroupNormalization divides by the number of groups."""
    for number in view.integers("num_groups") or ():
        if not 1 <= number <= _INT32:
            yield f"has num_groups {number}; expected 1 or more"


def _diagonal(view: NodeProtoView) -> Iterator[str]:
    """Trilu negates and adds the number of the diagonal without a look at its size."""
    number = view.constant(1)
    if number is not None and number.size and abs(int(number.reshape(-1)[0])) > _INT32:
        yield f"has the diagonal {int(number.reshape(-1)[0])}; expected at most {_INT32} in either direction"


def _parts(view: NodeProtoView) -> Iterator[str]:
    """SplitToSequence divides by the size of a part."""
    size = view.constant(1)
    if size is not None and size.ndim == 0 and int(size) < 1:
        yield f"splits into parts of {int(size)}; expected 1 or more"


def _columns(view: NodeProtoView) -> Iterator[str]:
    """Col2Im takes its input to be as large as image and block need."""
    image, block, columns = view.constant(1), view.constant(2), view.shape(0)
    if image is None or block is None:
        yield "computes the sizes of its image or block; expected stored ones"
        return
    axes = image.size
    if block.size != axes or any(not 1 <= int(size) <= _INT32 for size in (*image.flat, *block.flat)):
        yield f"has an image of {image.tolist()} and a block of {block.tolist()}; expected as many sizes, from 1 on"
        return
    strides, dilations = ((view.integers(name) or [1] * axes) for name in ("strides", "dilations"))
    pads = view.integers("pads") or [0] * 2 * axes
    if not (len(strides) == len(dilations) == axes and len(pads) == 2 * axes and min(*strides, *dilations) > 0):
        return  # said elsewhere
    steps = [
        (int(image[d]) + pads[d] + pads[axes + d] - dilations[d] * (int(block[d]) - 1) - 1) // strides[d] + 1
        for d in range(axes)
    ]
    if columns is None or len(columns) != 3 or columns[2] not in (None, math.prod(steps)) or min(steps) < 1:
        found = "unknown" if columns is None else list(columns)
        yield f"reads columns of shape {found}; expected {math.prod(steps)} of them by its image and block"


def _unpooling(view: NodeProtoView) -> Iterator[str]:
    """MaxUnpool writes where the indices say; one outside ends the process, from a thread where nobody catches."""
    indices = view.constant(1)
    if indices is None:
        return
    size = view.constant(2)
    shape = view.shape(0)
    most = None
    if size is not None:
        most = math.prod(int(length) for length in size)
    elif shape is not None and None not in shape:
        axes = len(shape) - 2
        strides, pads = view.integers("strides") or [1] * axes, view.integers("pads") or [0] * 2 * axes
        kernel = view.integers("kernel_shape") or []
        if len(strides) == len(kernel) == axes and len(pads) == 2 * axes:
            lengths = [
                (int(shape[2 + d] or 0) - 1) * strides[d] - pads[d] - pads[axes + d] + kernel[d] for d in range(axes)
            ]
            most = math.prod([int(shape[0] or 0), int(shape[1] or 0), *lengths])
    if indices.size and (int(indices.min()) < 0 or (most is not None and int(indices.max()) >= most)):
        yield f"has indices from {int(indices.min())} to {int(indices.max())}; expected 0 to below {most or 'its output'}"


def _regions(view: NodeProtoView) -> Iterator[str]:
    """RoiAlign reads the sample that a region names, whether it is there or not."""
    samples, shape = view.constant(2), view.shape(0)
    if samples is None or not samples.size:
        return
    most = shape[0] if shape and shape[0] is not None else _INT32
    if int(samples.min()) < 0 or int(samples.max()) >= most:
        yield f"takes regions from samples {np.unique(samples)[:4].tolist()}; expected 0 to below {most}"


PROBLEMS: Mapping[str, Callable[[NodeProtoView], Iterator[str]]] = MappingProxyType(
    {
        "DepthToSpace": _block,
        "SpaceToDepth": _block,
        "GroupNormalization": _groups,
        "Trilu": _diagonal,
        "SplitToSequence": _parts,
        "Col2Im": _columns,
        "MaxUnpool": _unpooling,
        "RoiAlign": _regions,
    }
)
