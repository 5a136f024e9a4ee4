"""ConvTranspose, as one Conv that computes all its phases, and an interleaving of them.

With stride s, kernel k, W of shape (in_channels, out_channels / group, k), and nothing cut away, a ConvTranspose is

    y[s q + r] = sum over j of x[q - j] W[s j + r],    r = 0 ... s - 1: the phases

so each phase is a Conv of x with every s-th tap of W in reverse order. One Conv with s filters per original filter
computes them at the resolution of x, ceil(k / s) taps each: no product is with an inserted zero, which would cost s
times as much per axis. Then they are interleaved, and what the pads take away is cut off.

Where the pads begin in the middle of a period, zeros are put before the taps so that it begins there instead, unless
that would lengthen the Conv's kernel; then the difference is cut off with the rest.

The Conv's filters are W times a constant 0/1 matrix that places the taps, so the gradient reaches W.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.nodes import optional_input, required_input
from tgdonnx.lowering.arithmetic import Arithmetic, Number, attribute, int64
from tgdonnx.lowering.emitting import Emitter, Lowering
from tgdonnx.lowering.pixel_shuffle import pixel_shuffle


class LowerConvTranspose(Lowering):
    """Replaces ConvTranspose nodes."""

    op_types = frozenset({"ConvTranspose"})

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the Conv of all phases and their interleaving."""
        a = Arithmetic(emit)
        return a.tidy(_lowered(a, node))


@dataclass(frozen=True)
class _Axis:
    """What happens along one axis.

    Attributes:
        phases: the number of phases, which is the stride.
        taps: for each phase and each tap of the Conv the tap of W that stands there, or -1; shape (phases, taps).
        dilation: of the Conv.
        pads: of the Conv, at the beginning and at the end.
        crop: how much of the interleaved result is too much, at the beginning and at the end.
    """

    phases: int
    taps: NDArray[np.int64]
    dilation: int
    pads: tuple[int, int]
    crop: tuple[int, int]

    @property
    def growth(self) -> int:
        """By how much the output of the Conv is longer than its input."""
        return int(sum(self.pads) - (self.taps.shape[1] - 1) * self.dilation)


def _plan(kernel: int, stride: int, dilation: int, begin: int, excess: int) -> _Axis:
    """Plans one axis; the output begins at ``begin`` and has the length ``stride * (size - 1) + excess``."""
    if stride == 1:
        taps = np.arange(kernel, dtype=np.int64)[None, ::-1]
    else:
        span, shift = (kernel - 1) * dilation + 1, -begin % stride
        if -(-(span + shift) // stride) > -(-span // stride):
            shift = 0
        begin += shift
        # Phase r meets at its tap j, counted from the last, the position s j + r of the shifted, dilated kernel.
        count = -(-(span + shift) // stride)
        position = np.arange(count)[::-1] * stride + np.arange(stride)[:, None] - shift
        used = (position >= 0) & (position < span) & (position % dilation == 0)
        taps = np.where(used, position // dilation, -1)
        dilation = 1
    reach = (taps.shape[1] - 1) * dilation
    first, cut = divmod(begin, stride)
    head = reach - first
    if head < 0:
        head, cut = 0, cut - stride * head
    tail = max(0, -(-(cut + excess) // stride) - head + reach - 1)
    too_much = stride * (head + tail - reach + 1) - excess - cut
    return _Axis(stride, taps, dilation, (head, tail), (cut, too_much))


def _plans(a: Arithmetic, node: ir.Node, sizes: list[Number], kernel: tuple[int, ...]) -> list[_Axis]:
    rank = len(kernel)
    strides, dilations = attribute(node, "strides", [1] * rank), attribute(node, "dilations", [1] * rank)
    pads, added = attribute(node, "pads", [0] * 2 * rank), attribute(node, "output_padding", [0] * rank)
    lengths = attribute(node, "output_shape", [])[-rank:]
    auto = attribute(node, "auto_pad", "NOTSET")
    plans = []
    for axis, k in enumerate(kernel):
        stride, head, tail = strides[axis], pads[axis], pads[axis + rank]
        excess = dilations[axis] * (k - 1) + 1 + added[axis]
        if lengths or auto in ("SAME_UPPER", "SAME_LOWER"):
            length = stride
            if lengths:
                size = sizes[axis]
                if isinstance(size, ir.Value):
                    raise a.refusal(
                        "has an output_shape, but the size of its input is not known before it runs",
                        "fix the size of the model's input, or export the model without output_shape",
                    )
                length = lengths[axis] - stride * (int(size) - 1)
            total = max(0, excess - length)
            head = total // 2 if auto == "SAME_UPPER" else total - total // 2
            tail = excess - length - head if lengths else total - head
        elif auto == "VALID":
            head = tail = 0
        plans.append(_plan(k, stride, dilations[axis], head, excess - head - tail))
    return plans


def _lowered(a: Arithmetic, node: ir.Node) -> ir.Value:
    x, weight, bias = required_input(node, 0), required_input(node, 1), optional_input(node, 2)
    shape = [dim for dim in weight.shape or () if isinstance(dim, int)]
    if weight.shape is None or len(shape) != len(weight.shape) or len(shape) < 3:
        raise a.refusal("has a weight whose shape is not known", "store the weight in the model")
    group = attribute(node, "group", 1)
    in_, out, kernel = shape[0] // group, shape[1], tuple(shape[2:])
    if x.shape is not None and len(x.shape) != len(shape):
        raise a.refusal(
            f"has an input of rank {len(x.shape)}, but a weight of rank {len(shape)}", "export the model again"
        )
    sizes = [a.size(x, axis) for axis in range(2, len(shape))]
    plans = _plans(a, node, sizes, kernel)
    phases, taps = prod(plan.phases for plan in plans), prod(plan.taps.shape[1] for plan in plans)

    placed = a.emit("MatMul", a.reshape(weight, [1, -1, prod(kernel)]), _placement(plans, kernel))
    placed = a.emit("Transpose", a.reshape(placed, [group, in_, out, phases, taps]), perm=[0, 2, 3, 1, 4])
    turned = a.reshape(placed, [-1, in_, *(plan.taps.shape[1] for plan in plans)])
    # A Conv with groups may be lowered further, and then its rank has to be known.
    turned.shape = ir.Shape([group * out * phases, in_, *(plan.taps.shape[1] for plan in plans)])
    turned.type = ir.TensorType(ir.DataType.FLOAT)
    inputs = [x, turned]
    if bias is not None:
        repeated = a.emit("MatMul", a.reshape(bias, [1, -1, 1]), np.ones((1, phases), np.float32))
        inputs.append(a.reshape(repeated, [-1]))
    y = a.emit(
        "Conv",
        *inputs,
        group=group,
        dilations=[plan.dilation for plan in plans],
        kernel_shape=[plan.taps.shape[1] for plan in plans],
        pads=[plan.pads[end] for end in (0, 1) for plan in plans],
    )
    if phases > 1:
        grown = [a.compute("Add", size, int64(plan.growth)) for size, plan in zip(sizes, plans)]
        y = pixel_shuffle(a, y, channels=int64(group * out), factors=[plan.phases for plan in plans], sizes=grown)
    if any(any(plan.crop) for plan in plans):
        y = _crop(a, y, [plan.crop for plan in plans])
    return y


def _placement(plans: list[_Axis], kernel: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns the 0/1 matrix, of shape (taps of W, phases * taps of the Conv), that puts the taps in their places."""
    matrix = np.ones((1, 1, 1), np.float32)
    for plan, size in zip(plans, kernel):
        one_axis = plan.taps == np.arange(size)[:, None, None]
        matrix = np.einsum("krt,KRT->kKrRtT", matrix, one_axis).reshape(
            matrix.shape[0] * size, matrix.shape[1] * plan.phases, -1
        )
    return matrix.reshape(matrix.shape[0], -1).astype(np.float32)


def _crop(a: Arithmetic, y: ir.Value, crop: list[tuple[int, int]]) -> ir.Value:
    axes = [axis for axis, ends in enumerate(crop) if any(ends)]
    return a.cut(
        y, [axis + 2 for axis in axes], [crop[axis][0] for axis in axes], [-crop[axis][1] or None for axis in axes]
    )
