"""GridSample, as a sum of gathered pixels.

The grid says where in the image each output lies. Along each axis it takes one, two or four pixels around that place,
with weights that depend on the grid alone; the pixels of an output are the combinations of those of all axes. They are
picked with GatherElements. All follows the runtime:
the order of padding and rounding, and what lies beyond the border.

The gradient reaches the image, and the grid through the weights: a net that computes its own grid (a spatial transformer)
trains. Which pixels are picked has no derivative (Floor, Round), so by mode nearest the gradient of the grid is zero.
"""

from __future__ import annotations

from itertools import product as combinations
from typing import Optional

import onnx_ir as ir

from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.nodes import required_input
from tgdonnx.lowering.arithmetic import Arithmetic, Number, attribute, float32, int64
from tgdonnx.lowering.emitting import Emitter, Lowering
from tgdonnx.lowering.resampling import cubic_weights

_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "cubic", "bicubic": "cubic"}
_CUBIC_COEFF_A = -0.75
_ONE, _ZERO, _TWO = float32(1), float32(0), float32(2)


class LowerGridSample(Lowering):
    """Replaces GridSample nodes."""

    op_types = frozenset({"GridSample"})

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the choice of pixels and their sum."""
        a, x, grid = Arithmetic(emit), required_input(node, 0), required_input(node, 1)
        if x.shape is None or len(x.shape) < 3:
            raise a.refusal("has an input whose rank is not known", "declare the shapes of the inputs of the model")
        mode, rank = _MODES.get(str(attribute(node, "mode", "linear"))), len(x.shape) - 2
        if mode is None:
            raise a.refusal(f"has the mode {attribute(node, 'mode', '')!r}", "expected nearest, linear or cubic")
        padding, aligned = str(attribute(node, "padding_mode", "zeros")), bool(attribute(node, "align_corners", 0))
        sizes = [a.size(x, axis + 2) for axis in range(rank)]
        known = known_array(grid)
        taps = []
        for axis, size in enumerate(sizes):
            last = rank - 1 - axis  # the grid has the coordinate of the last axis first
            place: Number = (
                known[..., last] if known is not None else a.emit("Gather", grid, int64(last), axis=rank + 1)
            )
            taps.append(_axis_taps(a, _Axis(a, size, padding, aligned), place, mode))
        pixels = a.reshape(x, [0, 0, -1])
        total: Optional[ir.Value] = None
        for chosen in combinations(*taps):
            index, weight = chosen[0]
            for size, (next_index, next_weight) in zip(sizes[1:], chosen[1:]):
                index = a.compute("Add", a.compute("Mul", index, a.cast(size, ir.DataType.FLOAT)), next_index)
                weight = a.compute("Mul", weight, next_weight)
            term = _picked(a, x, pixels, index, weight)
            total = term if total is None else a.emit("Add", total, term)
        assert total is not None
        shape = [a.size(grid, axis + 1) for axis in range(rank)]
        return a.tidy(a.reshape(total, [0, 0, *shape]))


def _picked(a: Arithmetic, x: ir.Value, pixels: ir.Value, index: Number, weight: Number) -> ir.Value:
    """Returns one pixel per output, times its weight; shape (N, C, outputs)."""
    flat = a.reshape(a.cast(index, ir.DataType.INT64), [0, 1, -1])
    channels = a.size(x, 1)
    one_each = a.emit("Concat", int64([1]), a.reshape(channels, [1]), int64([1]), axis=0)
    found = a.emit("GatherElements", pixels, a.emit("Expand", flat, one_each), axis=2)
    return a.emit("Mul", found, a.reshape(weight, [0, 1, -1]))


class _Axis:
    """The image along one axis: its size and what is beyond."""

    def __init__(self, a: Arithmetic, size: Number, padding: str, aligned: bool) -> None:
        self.a, self.padding, self.aligned = a, padding, aligned
        self.size = a.cast(size, ir.DataType.FLOAT)
        self.last = a.compute("Sub", self.size, _ONE)

    def pixel(self, place: Number) -> Number:
        """Returns where a coordinate of the grid, from -1 to 1, is in pixels."""
        a = self.a
        shifted = a.compute("Add", place, _ONE)
        if self.aligned:
            return a.compute("Mul", a.divide(shifted, _TWO), self.last)
        return a.divide(a.compute("Sub", a.compute("Mul", shifted, self.size), _ONE), _TWO)

    def clamped(self, place: Number) -> Number:
        """Returns the place, or the nearest within the image."""
        return self.a.compute("Max", _ZERO, self.a.compute("Min", place, self.last))

    def padded(self, place: Number) -> Number:
        """Returns the place within the image that stands for one beyond its border; zeros are treated elsewhere."""
        if self.padding == "border":
            return self.clamped(place)
        if self.padding != "reflection":
            return place
        a = self.a
        begin = _ZERO if self.aligned else float32(-0.5)
        extent = a.compute("Max", self.last if self.aligned else self.size, _ONE)
        # A triangle wave about the beginning, with the period of twice the extent; exact for whole pixels.
        away = a.compute("Abs", a.compute("Sub", place, begin))
        within = a.compute("Mod", away, a.compute("Mul", _TWO, extent), fmod=1)
        back = a.compute("Sub", extent, a.compute("Abs", a.compute("Sub", within, extent)))
        return a.compute("Add", begin, back)

    def tap(self, place: Number, weight: Optional[Number]) -> tuple[Number, Number]:
        """Returns the index of the pixel at a whole place, and its weight, which is 0 for zeros beyond the border."""
        a = self.a
        index = self.clamped(self.padded(place))
        if weight is None:
            weight = a.compute("Add", a.compute("Mul", index, _ZERO), _ONE)
        if self.padding == "zeros":
            moved = a.compute("Abs", a.compute("Sub", place, index))
            inside = a.cast(a.compute("Less", moved, float32(0.5)), ir.DataType.FLOAT)
            weight = a.compute("Mul", weight, inside)
        return index, weight


def _axis_taps(a: Arithmetic, axis: _Axis, place: Number, mode: str) -> list[tuple[Number, Number]]:
    """Returns the pixels of one axis that make an output, each with its weight; shape (N, *output)."""
    pixel = axis.pixel(place)
    if mode == "nearest":
        return [axis.tap(axis.padded(a.compute("Round", pixel)), None)]
    if mode == "linear" or axis.padding != "border":  # for cubic only the pixels are brought back, not the place
        pixel = axis.padded(pixel)
    below = a.compute("Floor", pixel)
    fraction = a.compute("Sub", pixel, below)
    if mode == "linear":
        above = a.compute("Add", below, _ONE)
        return [axis.tap(below, a.compute("Sub", above, pixel)), axis.tap(above, fraction)]
    taps = cubic_weights(a, float32(_CUBIC_COEFF_A), fraction)
    return [axis.tap(a.compute("Add", below, float32(offset)), weight) for offset, weight in zip(range(-1, 3), taps)]
