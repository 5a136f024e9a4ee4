"""The gradients of one Conv, each by the cheapest node for its shape.

The runtime has one node for all three, ``ConvGrad(dY, X, W) -> (dX, dW, dB)``. Measured with onnxruntime-training 1.19.2 on two
cores (AVX-512), 8 images of 64 x 64, 64 to 64 filters of 3 x 3, in ms: forward 7.5; dX 13.2, dW 8.4, both and dB 21.6.

dX  is a Conv of dY with the filters turned by 180 degrees and their two channel axes swapped: 7.3. ConvGrad multiplies just
    as much, but then adds the columns of a matrix up to an image, on one thread. Only where dX has far fewer channels than dY
    that matrix is small and ConvGrad is faster: 0.5 against 1.5 for one channel.
dW  of r filters needs r channels of dY. ConvGrad lays X out as a matrix of columns, whatever r. With the roles of X and dY
    exchanged it lays dY out, and finds the same numbers, turned and transposed: for 6 filters 1.3 instead of 3.5.
    dW of the kernels that read c maps needs c channels of X; whichever of X and dY has fewer channels then is laid out.
dB  is a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.builder import AttributeValue, Builder
from tgdonnx.graphs.constants import known_array

# dX by Conv costs columns of dY, by ConvGrad columns of dX, which are some times as dear. Measured: at a ratio of 4 to 1 (64
# channels of dY, 16 of dX; 32 and 4; ...) both take the same time.
_COLUMNS_RATIO = 4


@dataclass(frozen=True)
class ConvGradient:
    """A ConvGrad node, and the geometry of its Conv.

    Attributes:
        node: the node.
        build: writes in front of it.
        dy: gradient of the output.
        x: the input.
        weight: the filters, of shape (filters, maps, *kernel).
        filters: their number.
        maps: the number of input maps that each reads.
        group: as in Conv.
        kernel: sizes of the kernel.
        turned_pads: the pads of the Conv from dY to dX; None where that is no Conv, since strides are above 1 or the pads
            are wider than the kernel reaches.
    """

    node: ir.Node
    build: Builder
    dy: ir.Value
    x: ir.Value
    weight: ir.Value
    filters: int
    maps: int
    group: int
    kernel: tuple[int, ...]
    turned_pads: Optional[tuple[int, ...]]

    @staticmethod
    def of(node: ir.Node, shape: tuple[int, ...]) -> ConvGradient:
        """Reads a ConvGrad node; ``shape`` is that of its filters."""
        dy, x, weight = node.inputs[:3]
        assert dy is not None
        assert x is not None
        assert weight is not None
        filters, maps, kernel, group = shape[0], shape[1], shape[2:], node.attributes.get_int("group", 1)
        ones = [1] * len(kernel)
        strides = node.attributes["strides"].as_ints() if "strides" in node.attributes else ones
        dilations = node.attributes["dilations"].as_ints() if "dilations" in node.attributes else ones
        pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else [0] * 2 * len(kernel)
        reach = [(size - 1) * dilation for size, dilation in zip(kernel, dilations)]
        turned = tuple(r - pad for r, pad in zip(reach * 2, pads))
        is_conv = set(strides) == {1} and min(turned) >= 0
        build = Builder.before(node, word=next(str(value.name) for value in node.outputs if value.name))
        return ConvGradient(node, build, dy, x, weight, filters, maps, group, kernel, turned if is_conv else None)

    def attributes(self, **changed: AttributeValue) -> dict[str, AttributeValue]:
        """Returns the attributes of the node, with some changed."""
        own = {name: attribute.value for name, attribute in self.node.attributes.items() if name != "auto_pad"}
        return {**own, **changed}


def input_gradient(conv: ConvGradient) -> Optional[ir.Value]:
    """Writes dX as a Conv, or returns None where ConvGrad is the better node for it."""
    if conv.turned_pads is None or conv.filters > _COLUMNS_RATIO * conv.group * conv.maps:
        return None
    return conv.build("Conv", conv.dy, _turned_filters(conv), **conv.attributes(pads=list(conv.turned_pads)))


def _turned_filters(conv: ConvGradient) -> ir.Value:
    """Returns the filters turned by 180 degrees and with channel axes swapped; of constant ones, a constant."""
    build, rank = conv.build, len(conv.kernel)
    apart = [conv.group, conv.filters // conv.group, conv.maps, *conv.kernel]
    together = [conv.group * conv.maps, conv.filters // conv.group, *conv.kernel]
    array = known_array(conv.weight)
    if array is not None:
        turned = np.flip(array.reshape(apart).swapaxes(1, 2).reshape(together), tuple(range(2, 2 + rank)))
        return build.constant(np.ascontiguousarray(turned), "filters")
    if conv.group == 1:
        return _turn(conv, _swap(conv, conv.weight))
    swapped = build("Transpose", build.reshape(conv.weight, apart), perm=[0, 2, 1, *range(3, 3 + rank)])
    return _turn(conv, build.reshape(swapped, together))


def filter_gradient(conv: ConvGradient, weight: ir.Value, size: tuple[int, int], dy: ir.Value, x: ir.Value) -> ir.Value:
    """Writes dW of some filters of a Conv without groups, or of the kernels in them that read some maps.

    Args:
        conv: the Conv.
        weight: the filters, with these kernels; of their values nothing is read.
        size: the number of filters, and that of maps.
        dy: gradient of the outputs of these filters.
        x: these maps of the input.
    """
    filters, maps = size
    if conv.turned_pads is None or filters >= maps:
        return _conv_grad(conv, [dy, x, weight])
    gradient = _conv_grad(conv, [x, dy, _swap(conv, weight)], pads=list(conv.turned_pads))
    return _turn(conv, _swap(conv, gradient))


def grouped_filter_gradient(
    conv: ConvGradient, weight: ir.Value, rows: NDArray[np.int64], dy: ir.Value
) -> Optional[ir.Value]:
    """Writes dW of some filters of a Conv with groups, or returns None where that would cost more than dW of all.

    Each filter becomes a group of its own, with its own copy of the maps that it reads.

    Args:
        conv: the Conv.
        weight: the filters; of their values nothing is read.
        rows: their indices.
        dy: gradient of their outputs.
    """
    if len(rows) >= conv.group:
        return None
    first = rows // (conv.filters // conv.group) * conv.maps
    x = gather(conv.build, conv.x, (first[:, None] + np.arange(conv.maps)).reshape(-1), 1)
    return _conv_grad(conv, [dy, x, weight], group=len(rows))


def bias_gradient(conv: ConvGradient, dy: ir.Value) -> ir.Value:
    """Writes dB of the filters that ``dy`` is the gradient of: its sum over everything but channels."""
    axes = [0, *range(2, 2 + len(conv.kernel))]
    return conv.build.reduce("ReduceSum", dy, axes, keepdims=False)


def _conv_grad(conv: ConvGradient, inputs: Sequence[ir.Value], **attributes: AttributeValue) -> ir.Value:
    """Writes a ConvGrad that computes dW alone, with some attributes changed."""
    unread, gradient, *_ = conv.build.several(
        "ConvGrad", inputs, conv.attributes(**attributes), 2, domain="com.microsoft"
    )
    unread.name = ""
    return gradient


def gather(build: Builder, value: ir.Value, indices: NDArray[np.int64], axis: int) -> ir.Value:
    """Writes a Gather of fixed indices."""
    return build("Gather", value, build.constant(np.asarray(indices, np.int64), "indices"), axis=axis)


def _turn(conv: ConvGradient, value: ir.Value) -> ir.Value:
    """Reverses the spatial axes."""
    for axis, size in enumerate(conv.kernel, start=2):
        if size > 1:
            value = gather(conv.build, value, np.arange(size)[::-1], axis)
    return value


def _swap(conv: ConvGradient, value: ir.Value) -> ir.Value:
    return conv.build("Transpose", value, perm=[1, 0, *range(2, 2 + len(conv.kernel))])
