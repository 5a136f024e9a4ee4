"""Tiles along one axis of an image: where to cut so that every output element is computed from all that it depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

from tgdonnx.applying.reach import Reach
from tgdonnx.errors import DataError


@dataclass(frozen=True)
class Tile:
    """A piece of an axis.

    Attributes:
        start: its first input element.
        stop: behind its last one.
        first: the first output element that is taken from it.
        last: behind the last one; None in the last tile, which gives all that it has.
        origin: the output element that the network gives first for this tile.
    """

    start: int
    stop: int
    first: int
    last: Optional[int]
    origin: int


def cut(size: int, length: int, reach: Reach, step: int, *, fixed: bool = False) -> tuple[Tile, ...]:
    """Cuts an axis into tiles that overlap as far as the receptive field asks for.

    Args:
        size: of the image.
        length: of a tile.
        reach: of the output.
        step: tiles start at multiples of it; all but the last are as long as a multiple of it.
        fixed: whether the network takes this length only.

    Raises:
        DataError: such tiles cannot give the whole output.
    """
    if (size <= length and not fixed) or size == length:
        return (Tile(0, size, 0, None, 0),)
    if fixed and (size < length or (size - length) % step):
        more = f" plus a multiple of {step}" if step > 1 else " or more"
        raise DataError(
            f"the model takes {length} pixels along this axis; expected an image of {length}{more}, got {size}"
        )
    if not fixed:
        length -= length % step
    tiles: list[Tile] = []
    start = first = 0
    while start + length < size:
        last = math.floor((start + length - 1 - reach.high) / reach.scale) + 1
        tiles.append(Tile(start, start + length, first, last, _origin(start, reach)))
        following = math.floor(reach.scale * last + reach.low)
        following -= following % step
        if following <= start or last <= first:
            needed = math.ceil(reach.high - reach.low) + 2 * step + math.ceil(reach.scale)
            raise DataError(
                f"a tile of {length} pixels is too small: an output pixel depends on {math.ceil(reach.high - reach.low) + 1} "
                f"pixels along this axis; expected tiles of {needed + step - needed % step} or more"
            )
        start, first = following, last
    if fixed:
        start = size - length
    tiles.append(Tile(start, size, first, None, _origin(start, reach)))
    return tuple(tiles)


def _origin(start: int, reach: Reach) -> int:
    origin = start / reach.scale
    assert origin.denominator == 1, "tiles start at multiples of every scale's numerator"
    return int(origin)
