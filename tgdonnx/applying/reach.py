"""Which elements of a network's input an element of a value depends on, along one axis of space.

Element ``o`` depends on no other elements than ``scale * o + low`` to ``scale * o + high``. Two things hold besides, and stay
true when operators follow one another, because they hold for each operator:

- ``low <= 0``, so an element in front of the first one would need something in front of the first input element;
- ``scale * count + high >= size`` where the value has ``count`` elements for an input of ``size``, so an element behind the
  last one would need something behind the last input element.

By these, an element that can be computed from a piece of the input alone is really there when the network runs on that piece,
and padding within the network, which is put around the piece instead of the image, does not come into it. The piece has to
start where strides of the whole network do: at a multiple of the numerator of every scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Reach:
    """What elements along one axis of a value depend on.

    Attributes:
        axis: the axis of the input.
        scale: input elements per element.
        low: offset of the first input element; at most 0.
        high: offset of the last one.
    """

    axis: int
    scale: Fraction = Fraction(1)
    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)

    def then(self, scale: Fraction, low: Fraction, high: Fraction) -> Reach:
        """Returns the reach behind an operator whose element ``o`` reads from ``scale * o + low`` to ``scale * o + high``."""
        low = min(low, Fraction(0))
        return Reach(self.axis, self.scale * scale, self.scale * low + self.low, self.scale * high + self.high)

    def joined(self, other: Reach) -> Reach:
        """Returns the reach of what depends on both; they have the same axis and scale."""
        assert (self.axis, self.scale) == (other.axis, other.scale)
        return Reach(self.axis, self.scale, min(self.low, other.low), max(self.high, other.high))


def convolved(reach: Reach, kernel: int, stride: int, dilation: int, begin: int) -> Reach:
    """Returns the reach behind a convolution or a pool with that padding in front; that behind does not matter."""
    # Element `count`, the first that is not there, reads up to size + the padding behind.
    return reach.then(Fraction(stride), Fraction(-begin), Fraction(dilation * (kernel - 1) - begin))


def transposed(reach: Reach, kernel: int, stride: int, dilation: int, begin: int, end: int, extra: int) -> Reach:
    """Returns the reach behind a transposed convolution with padding and ``output_padding`` of ``extra``."""
    span = dilation * (kernel - 1)
    high = max(begin, stride - span - 1 + begin + end - extra)
    return reach.then(Fraction(1, stride), Fraction(begin - span, stride), Fraction(high, stride))


def padded(reach: Reach, begin: int, end: int, *, mirrored: bool) -> Reach:
    """Returns the reach behind a Pad; negative padding crops. A mirrored border reads as far inside as it is wide."""
    low, high = -begin, max(-begin, -begin - end)
    if mirrored:
        low, high = low - 2 * max(end, 0), high + 2 * max(begin, 0)
    return reach.then(Fraction(1), Fraction(low), Fraction(high))


def sliced(reach: Reach, start: int, cut: int, step: int) -> Reach:
    """Returns the reach behind a slice from ``start``, without the last ``cut`` elements, of every ``step``-th."""
    return reach.then(Fraction(step), Fraction(start), Fraction(start + cut))


def resized(reach: Reach, factor: Fraction, shift: Fraction, taps: int) -> Reach:
    """Returns the reach behind a resize.

    Args:
        reach: of what is resized.
        factor: output elements per input element.
        shift: element ``o`` lies at ``o / factor + shift``.
        taps: how far from there the elements are that it is interpolated from.
    """
    high = max(shift + taps, 1 / factor)  # the size is rounded down
    return reach.then(1 / factor, shift - taps, high)


def scaled(reach: Reach, block: int, *, up: bool) -> Reach:
    """Returns the reach behind DepthToSpace (``up``) or SpaceToDepth."""
    if up:
        return reach.then(Fraction(1, block), Fraction(1 - block, block), Fraction(0))
    return reach.then(Fraction(block), Fraction(0), Fraction(block - 1))


@dataclass(frozen=True)
class ReceptiveField:
    """Which part of an image each element of a network's output depends on.

    Attributes:
        reaches: of the output, by axis of the input.
        axes: for the axes of the input those of the output.
        steps: by axis of the input: tiles start at multiples of this.
    """

    reaches: Mapping[int, Reach]
    axes: Mapping[int, int]
    steps: Mapping[int, int]
