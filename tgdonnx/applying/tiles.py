"""Tiles along one axis of an image: where to cut so that every output element is computed from all that it depends on."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def cut(
    size: int, length: int, reaches: Sequence[Reach], step: int, *, fixed: bool = False
) -> tuple[tuple[Tile, ...], ...]:
    """Cuts an axis into tiles that overlap as far as the receptive field asks for.

    Args:
        size: of the image.
        length: of a tile.
        reaches: of every output.
        step: tiles start at multiples of it; all but the last are as long as a multiple of it.
        fixed: whether the network takes this length only.

    Returns:
        Of every output its tiles, which start and stop where those of the others do.

    Raises:
        DataError: such tiles cannot give the whole of an output.
    """
    if (size <= length and not fixed) or size == length:
        return tuple((Tile(0, size, 0, None, 0),) for _ in reaches)
    if fixed and (size < length or (size - length) % step):
        more = f" plus a multiple of {step}" if step > 1 else " or more"
        raise DataError(
            f"the model takes {length} pixels along this axis; expected an image of {length}{more}, got {size}"
        )
    if not fixed:
        length -= length % step
    tiles: list[list[Tile]] = [[] for _ in reaches]
    start, firsts = 0, [0] * len(reaches)
    while start + length < size:
        lasts = [math.floor((start + length - 1 - reach.high) / reach.scale) + 1 for reach in reaches]
        for made, reach, first, last in zip(tiles, reaches, firsts, lasts):
            made.append(Tile(start, start + length, first, last, _origin(start, reach)))
        following = min(math.floor(reach.scale * last + reach.low) for reach, last in zip(reaches, lasts))
        following -= following % step
        if following <= start or any(last <= first for first, last in zip(firsts, lasts)):
            raise _too_small(length, reaches, step)
        start, firsts = following, lasts
    if fixed:
        start = size - length
    for made, reach, first in zip(tiles, reaches, firsts):
        made.append(Tile(start, size, first, None, _origin(start, reach)))
    return tuple(map(tuple, tiles))


def _too_small(length: int, reaches: Sequence[Reach], step: int) -> DataError:
    """Returns what is said of tiles that are shorter than what an element of an output depends on."""
    low, high = min(reach.low for reach in reaches), max(reach.high for reach in reaches)
    needed = math.ceil(high - low) + 2 * step + max(math.ceil(reach.scale) for reach in reaches)
    return DataError(
        f"a tile of {length} pixels is too small: an output pixel depends on {math.ceil(high - low) + 1} pixels along this "
        f"axis; expected tiles of {needed + step - needed % step} or more"
    )


def _origin(start: int, reach: Reach) -> int:
    origin = start / reach.scale
    assert origin.denominator == 1, "tiles start at multiples of every scale's numerator"
    return int(origin)
