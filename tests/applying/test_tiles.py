"""Where an axis is cut: every output element once, from a tile that has all that it depends on."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tgdonnx.applying.reach import Reach
from tgdonnx.applying.tiles import cut
from tgdonnx.errors import DataError

SCALES = st.sampled_from([Fraction(1), Fraction(2), Fraction(1, 2), Fraction(3, 2)])
REACHES = st.lists(st.tuples(st.integers(-30, 0), st.integers(0, 30), SCALES), min_size=1, max_size=3)


@given(size=st.integers(1, 400), length=st.integers(1, 120), reaches=REACHES, more=st.sampled_from([1, 2, 4]))
def test_tiles_cover_every_output_once_and_hold_what_it_depends_on(
    size: int, length: int, reaches: list[tuple[int, int, Fraction]], more: int
) -> None:
    step = math.lcm(*(scale.numerator for _, _, scale in reaches)) * more
    try:
        cuts = cut(size, length, [Reach(2, scale, Fraction(low), Fraction(high)) for low, high, scale in reaches], step)
    except DataError:
        assume(False)
    assert len({tuple((tile.start, tile.stop) for tile in tiles) for tiles in cuts}) == 1
    for tiles, (low, high, scale) in zip(cuts, reaches):
        assert tiles[0].start == tiles[0].first == 0
        assert tiles[-1].stop == size
        assert tiles[-1].last is None
        for tile, following in zip(tiles, tiles[1:]):
            assert tile.last == following.first
            assert tile.stop - tile.start <= length
        for tile in tiles:
            assert tile.start % step == 0
            assert tile.origin * scale == tile.start
            assert tile.start == 0 or scale * tile.first + low >= tile.start
            assert tile.last is None or scale * (tile.last - 1) + high <= tile.stop - 1


def test_the_size_that_a_refusal_names_is_large_enough() -> None:
    for low, high, scale, step in ((-5, 5, 1, 1), (-30, 2, 2, 8), (-3, 9, Fraction(1, 2), 4)):
        reach = Reach(2, Fraction(scale), Fraction(low), Fraction(high))
        with pytest.raises(DataError) as caught:
            cut(1000, 1, [reach], step)
        named = re.search(r"expected tiles of (\d+) or more", str(caught.value))
        assert named
        (tiles,) = cut(1000, int(named[1]), [reach], step)
        assert len(tiles) > 1
