"""Where the pixels of a resized axis come from: as ONNX Runtime computes it, in float32, step by step.

Resizing is linear and separable: along each axis it is a matrix of shape (new size, size), which has in row o the
weights of the few pixels that output o is made of. Here such a matrix is made from the attributes of a Resize or an
Upsample, a constant where the sizes are known, else nodes of the graph that compute it. The formulas follow the
operator's definition (ONNX, Resize, opset 19); where that leaves open how to round, they follow the runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.lowering.arithmetic import Arithmetic, Number, float32

_HALF, _ONE, _ZERO = float32(0.5), float32(1), float32(0)


@dataclass(frozen=True)
class Axis:
    """A resized axis.

    Attributes:
        axis: which.
        size: its size, int64.
        new_size: the size it gets, int64.
        scale: the factor that coordinates go by, float32; nearly ``new_size / size``.
        roi: beginning and end of the region of interest, float32, in units of the axis.
    """

    axis: int
    size: Number
    new_size: Number
    scale: Number
    roi: tuple[Number, Number]


@dataclass(frozen=True)
class Sampling:
    """What the attributes of a Resize say.

    Attributes:
        mode: nearest, linear or cubic.
        coordinates: the coordinate_transformation_mode.
        rounding: the nearest_mode.
        cubic_coeff_a: of the cubic kernel.
        exclude_outside: whether the weights of pixels beyond the border go to the others.
    """

    mode: str
    coordinates: str
    rounding: str
    cubic_coeff_a: float
    exclude_outside: bool

    @property
    def repeats(self) -> bool:
        """Whether growing s times, s an integer, is nothing but repeating each pixel s times."""
        return self.mode == "nearest" and (self.coordinates, self.rounding) in _REPEATING


_CENTRED = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
_REPEATING = {
    ("asymmetric", "floor"),
    ("tf_half_pixel_for_nn", "floor"),
    *((coordinates, rounding) for coordinates in _CENTRED for rounding in ("round_prefer_floor", "round_prefer_ceil")),
}


@dataclass(frozen=True)
class Weights:
    """The matrix of an axis.

    Attributes:
        matrix: shape (new size, size).
        inside: for each row 1 where it is within the image and 0 where the value is extrapolated; None if all are.
    """

    matrix: Number
    inside: Optional[Number]


def weights(a: Arithmetic, sampling: Sampling, axis: Axis, unchanged: Number) -> Weights:
    """Returns the matrix of an axis.

    Args:
        a: where it is computed if need be.
        sampling: how.
        axis: which, with a scale that is not known to be 1.
        unchanged: 1 if no axis at all changes its size, else 0; then the runtime copies, whatever the scale.
    """
    outputs = a.cast(a.count(axis.new_size), ir.DataType.FLOAT)
    coordinate = _coordinates(a, sampling.coordinates, axis, outputs)
    if isinstance(axis.scale, ir.Value) or isinstance(unchanged, ir.Value):
        # A scale of 1 means the identity. To each output its own index, then.
        differs = a.compute("Max", _flag(a, "Greater", axis.scale, _ONE), _flag(a, "Less", axis.scale, _ONE))
        differs = a.compute("Mul", differs, a.compute("Sub", _ONE, unchanged))
        kept = a.compute("Mul", outputs, a.compute("Sub", _ONE, differs))
        coordinate = a.compute("Add", kept, a.compute("Mul", coordinate, differs))
    columns = a.count(axis.size)
    last = a.compute("Sub", a.cast(axis.size, ir.DataType.FLOAT), _ONE)
    if sampling.mode == "linear":
        within = a.compute("Max", _ZERO, a.compute("Min", coordinate, last))
        distance = a.compute("Abs", a.compute("Sub", a.column(within), a.cast(columns, ir.DataType.FLOAT)))
        matrix = a.compute("Relu", a.compute("Sub", _ONE, distance))
    elif sampling.mode == "cubic":
        matrix = _cubic(a, sampling, coordinate, columns, last)
    else:
        matrix = _one_hot(a, _nearest(a, sampling.rounding, coordinate), columns, last)
    if sampling.coordinates != "tf_crop_and_resize":
        return Weights(matrix, None)
    outside = a.compute("Max", _flag(a, "Less", coordinate, _ZERO), _flag(a, "Greater", coordinate, last))
    inside = a.compute("Sub", _ONE, outside)
    return Weights(a.compute("Mul", matrix, a.column(inside)), inside)


def _coordinates(a: Arithmetic, mode: str, axis: Axis, outputs: Number) -> Number:
    """Returns the place in the original axis, in pixels, of each output."""
    size, new_size = (a.cast(n, ir.DataType.FLOAT) for n in (axis.size, axis.new_size))
    if mode == "asymmetric":
        return a.divide(outputs, axis.scale)
    if mode == "align_corners":
        # One output alone is at 0; its numerator is 0 whatever the divisor.
        steps = a.compute("Max", a.compute("Sub", new_size, _ONE), _ONE)
        return a.divide(a.compute("Mul", outputs, a.compute("Sub", size, _ONE)), steps)
    if mode == "tf_crop_and_resize":
        return _crop_and_resize(a, axis, outputs, a.compute("Sub", size, _ONE), a.compute("Sub", new_size, _ONE))
    if mode == "half_pixel_symmetric":
        growth = a.divide(new_size, a.compute("Mul", axis.scale, size))
        offset = a.compute("Mul", a.divide(size, float32(2)), a.compute("Sub", _ONE, growth))
        offset, outputs, scale = (a.cast(n, ir.DataType.DOUBLE) for n in (offset, outputs, axis.scale))
        half = np.array(0.5)
        place = a.compute("Add", offset, a.divide(a.compute("Add", outputs, half), scale))
        return a.cast(a.compute("Sub", place, half), ir.DataType.FLOAT)
    centre = a.divide(a.compute("Add", outputs, _HALF), axis.scale)
    if mode == "tf_half_pixel_for_nn":
        return centre
    centre = a.compute("Sub", centre, _HALF)
    if mode == "pytorch_half_pixel":
        return a.compute("Mul", centre, _flag(a, "Greater", new_size, _ONE))
    if mode == "half_pixel":
        return centre
    raise a.refusal(f"has the coordinate_transformation_mode {mode!r}", "expected one that ONNX defines")


def _crop_and_resize(a: Arithmetic, axis: Axis, outputs: Number, last: Number, new_last: Number) -> Number:
    begin, end = axis.roi
    extent = a.compute("Mul", a.compute("Mul", outputs, a.compute("Sub", end, begin)), last)
    several = _flag(a, "Greater", new_last, _ZERO)
    many = a.compute("Add", a.compute("Mul", begin, last), a.divide(extent, a.compute("Max", new_last, _ONE)))
    single = a.compute("Mul", a.compute("Mul", _HALF, a.compute("Add", begin, end)), last)
    rest = a.compute("Mul", single, a.compute("Sub", _ONE, several))
    return a.compute("Add", a.compute("Mul", many, several), rest)


def _nearest(a: Arithmetic, rounding: str, coordinate: Number) -> Number:
    below = a.compute("Floor", coordinate)
    if rounding == "floor":
        return below
    above = a.compute("Ceil", coordinate)
    if rounding == "ceil":
        return above
    fraction = a.compute("Sub", coordinate, below)
    if rounding == "round_prefer_ceil":
        return a.compute("Add", below, a.compute("Sub", _ONE, _flag(a, "Less", fraction, _HALF)))
    return a.compute("Add", below, _flag(a, "Greater", fraction, _HALF))


def _cubic(a: Arithmetic, sampling: Sampling, coordinate: Number, columns: Number, last: Number) -> Number:
    """Pixels beyond the border are those at the border."""
    below = a.compute("Floor", coordinate)
    places = [a.compute("Add", below, float32(offset)) for offset in range(-1, 3)]
    taps = cubic_weights(a, float32(sampling.cubic_coeff_a), a.compute("Sub", coordinate, below))
    if sampling.exclude_outside:
        for tap, place in enumerate(places):
            outside = a.compute("Max", _flag(a, "Less", place, _ZERO), _flag(a, "Greater", place, last))
            taps[tap] = a.compute("Mul", taps[tap], a.compute("Sub", _ONE, outside))
        total = a.compute("Add", a.compute("Add", taps[0], taps[1]), a.compute("Add", taps[2], taps[3]))
        taps = [a.divide(tap, total) for tap in taps]
    terms = [a.compute("Mul", _one_hot(a, place, columns, last), a.column(tap)) for place, tap in zip(places, taps)]
    return a.compute("Add", a.compute("Add", terms[0], terms[1]), a.compute("Add", terms[2], terms[3]))


def cubic_weights(a: Arithmetic, coefficient: Number, s: Number) -> list[Number]:
    """Returns the weights of the pixels at -1, 0, 1 and 2 for a place at 0 <= s < 1 (Keys, 1981)."""
    distances = [a.compute("Abs", a.compute("Sub", s, float32(offset))) for offset in range(-1, 3)]
    return [(_outer if tap in (0, 3) else _inner)(a, coefficient, d) for tap, d in enumerate(distances)]


def _inner(a: Arithmetic, coefficient: Number, d: Number) -> Number:
    """((a + 2) d - (a + 3)) d d + 1, for distances up to 1."""
    line = a.compute("Mul", a.compute("Add", coefficient, float32(2)), d)
    line = a.compute("Sub", line, a.compute("Add", coefficient, float32(3)))
    return a.compute("Add", a.compute("Mul", a.compute("Mul", line, d), d), _ONE)


def _outer(a: Arithmetic, coefficient: Number, d: Number) -> Number:
    """((a d - 5 a) d + 8 a) d - 4 a, for distances from 1 to 2."""
    line = a.compute("Sub", a.compute("Mul", coefficient, d), a.compute("Mul", float32(5), coefficient))
    line = a.compute("Add", a.compute("Mul", line, d), a.compute("Mul", float32(8), coefficient))
    return a.compute("Sub", a.compute("Mul", line, d), a.compute("Mul", float32(4), coefficient))


def _one_hot(a: Arithmetic, places: Number, columns: Number, last: Number) -> Number:
    within = a.compute("Max", _ZERO, a.compute("Min", places, last))
    rows = a.column(a.cast(within, ir.DataType.INT64))
    return a.cast(a.compute("Equal", rows, columns), ir.DataType.FLOAT)


def _flag(a: Arithmetic, comparison: str, left: Number, right: Number) -> Number:
    """Returns 1 where the comparison holds, else 0, as float32."""
    return a.cast(a.compute(comparison, left, right), ir.DataType.FLOAT)
