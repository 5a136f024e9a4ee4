"""Convolutions and poolings whose windows reach where there is nothing.

Their kernels go by strides, dilations, pads and sizes without a look at the ends: a step of 0 is a division by zero, a
negative one or a bias that is too short is a read beyond a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Optional

from tgdonnx.runtime.node_protos import NodeProtoView, Shape

_MOST = 2**31 - 1  # sizes are multiplied in 64 bits, and cut to 32 here and there
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool", "MaxUnpool", "NhwcMaxPool", "QLinearAveragePool"})
# By operator which inputs are the weight and the bias.
_WEIGHTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1, None),
    "QLinearConv": (3, 8),
    "FusedConv": (1, 2),
    "NhwcFusedConv": (1, 2),
    "ConvTransposeWithDynamicPads": (1, 3),
    "DeformConv": (1, 3),
}
WINDOWED = frozenset({*_POOLS, *_WEIGHTS, "Col2Im"})
_FROM_ONE = ("strides", "dilations", "kernel_shape", "group", "offset_group", "output_shape")
_FROM_ZERO = ("pads", "output_padding")
_AUTO_PADS = (b"", b"NOTSET", b"SAME_UPPER", b"SAME_LOWER", b"VALID")


def window_problems(view: NodeProtoView) -> Iterator[str]:
    """Yields what is wrong with a node of `WINDOWED`, to be read after its name."""
    for names, least in ((_FROM_ONE, 1), (_FROM_ZERO, 0)):
        for name in names:
            numbers = view.integers(name)
            if numbers is not None and not all(least <= number <= _MOST for number in numbers):
                yield f"has {name} {list(numbers)}; expected numbers from {least} to {_MOST}"
    rank = None
    if view.node.op_type in _WEIGHTS:
        yield from _weight_problems(view)
        rank = _rank(view.shape(_WEIGHTS[view.node.op_type][0]))
    elif view.node.op_type in _POOLS:
        rank = _rank(view.shape(0))
    kernel = view.integers("kernel_shape")
    axes = rank - 2 if rank is not None else len(kernel) if kernel else None
    if view.node.op_type == "Col2Im":
        axes = None if (block := view.constant(2)) is None else block.size
    for name, factor in (("strides", 1), ("dilations", 1), ("kernel_shape", 1), ("pads", 2), ("output_padding", 1)):
        numbers = view.integers(name)
        if numbers and axes is not None and len(numbers) != factor * axes:
            yield f"has {name} {list(numbers)}; expected {factor * axes} numbers for {axes} axes of space"


def _weight_problems(view: NodeProtoView) -> Iterator[str]:
    place, bias_place = _WEIGHTS[view.node.op_type]
    weight, data = view.shape(place), view.shape(0)
    bias = None if bias_place is None else view.shape(bias_place)
    if weight is None:
        return
    if len(weight) < 3 or 0 in weight:
        yield f"has a weight of shape {_text(weight)}; expected filters, maps, and at least one axis of space, none of them 0"
        return
    if data is not None and len(data) != len(weight):
        yield f"has a weight of {len(weight)} axes for data of {len(data)}"
    kernel = view.integers("kernel_shape")
    if kernel and any(known not in (None, said) for known, said in zip(weight[2:], kernel)):
        yield f"has kernel_shape {list(kernel)} and a weight of shape {_text(weight)}"
    group = (view.integers("group") or [1])[0]
    filters = weight[0]
    if "Transpose" in view.node.op_type:
        if weight[0] is not None and group > 0 and weight[0] % group:
            yield f"has a weight of shape {_text(weight)}, which does not fit group = {group}"
        filters = None if weight[1] is None else weight[1] * group
    elif filters is not None and group > 0 and filters % group:
        yield f"has a weight of shape {_text(weight)}, which does not fit group = {group}"
    if (
        bias is not None
        and None not in bias
        and filters is not None
        and math.prod(size or 0 for size in bias) != filters
    ):
        yield f"has a bias of shape {_text(bias)} for {filters} filters"


def _rank(shape: Optional[Shape]) -> Optional[int]:
    return None if shape is None else len(shape)


def _text(shape: Sequence[Optional[int]]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
