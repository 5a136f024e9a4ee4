"""How outputs are computed of a case: by which tiles, or on whole images, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from tgdonnx.applying.cases import require_sizes
from tgdonnx.applying.feeding import Case
from tgdonnx.applying.network import ImageNetwork
from tgdonnx.applying.reach import ReceptiveField
from tgdonnx.applying.tiles import Tile, cut
from tgdonnx.data.layouts import SPACE
from tgdonnx.errors import DataError

# Pixels of a tile along each axis, by the number of axes: what the runtime holds of it stays below a few GB.
_TILE = {1: 65536, 2: 512, 3: 96}


@dataclass(frozen=True)
class Plan:
    """How an output is computed of a case.

    Attributes:
        tiles: per axis of space.
        space: for axes of the image the axes of the output that are these; empty where that is not known.
        whole: why the model runs on whole images only; None if it need not.
    """

    tiles: tuple[tuple[Tile, ...], ...]
    space: dict[int, int]
    whole: Optional[str]

    @property
    def overlap(self) -> tuple[int, ...]:
        """The overlap of neighbouring tiles, by axis of space; empty where there is one tile."""
        if math.prod(map(len, self.tiles)) == 1:
            return ()
        return tuple(max((a.stop - b.start for a, b in zip(each, each[1:])), default=0) for each in self.tiles)


def plans_of(network: ImageNetwork, case: Case, tile: Optional[Sequence[int]]) -> tuple[Plan, ...]:
    """Returns how every output of a case is computed: of the same tiles, or on whole images where one of them needs these.

    Args:
        network: the model.
        case: the data.
        tile: the size of tiles per axis of space; None for tiles that suit the model.

    Raises:
        DataError: the case does not fit the model, or a tile is too small.
    """
    view = case.view
    fields = [network.receptive_field(name, view.layout) for name in network.outputs]
    sizes = {tuple(each.space.items()) for each in case.views if each.layout == view.layout}
    known = [found for found in fields if not isinstance(found, str)]
    if len(known) == len(fields) and len(sizes) == 1:
        return _tiled(network, case, known, tile)
    whole = "its images differ in size" if len(known) == len(fields) else ""
    for name, found in zip(network.outputs, fields):
        if isinstance(found, str):
            whole = whole or (found if len(fields) == 1 else f"output {name!r}: {found}")
    require_sizes(case, network, whole)
    _require_tile(case, tile)
    tiles = tuple((Tile(0, size, 0, None, 0),) for _, size in _space(case))
    return tuple(Plan(tiles, {} if isinstance(each, str) else dict(each.axes), whole) for each in fields)


def _space(case: Case) -> list[tuple[int, int]]:
    """Returns the axes of space of a batch of images, and their sizes."""
    view = case.view
    return [(axis, size) for axis, (x, size) in enumerate(zip(view.axes, view.shape), 1) if x in SPACE]


def _require_tile(case: Case, tile: Optional[Sequence[int]]) -> None:
    wanted = len(_space(case))
    if tile is not None and len(tile) != wanted:
        raise DataError(f"expected a tile of {wanted} sizes, got {'x'.join(map(str, tile))}")


def _tiled(
    network: ImageNetwork, case: Case, fields: Sequence[ReceptiveField], tile: Optional[Sequence[int]]
) -> tuple[Plan, ...]:
    space, sizes = _space(case), network.image.shape
    _require_tile(case, tile)
    tiles = []
    for position, (axis, size) in enumerate(space):
        reaches = [found.reaches[axis] for found in fields]
        step = math.lcm(*(found.steps[axis] for found in fields))
        fixed = sizes[axis] if sizes is not None and len(sizes) > axis else None
        # By default so long that most of a tile is no overlap.
        overlap = max(math.ceil(reach.high - reach.low) for reach in reaches)
        length = tile[position] if tile is not None else max(_TILE[len(space)], 4 * overlap)
        tiles.append(cut(size, fixed or length, reaches, step, fixed=fixed is not None))
    for found in fields:
        order = [found.axes[axis] for axis, _ in space]
        if order != sorted(order):
            raise DataError(f"the output has its axes in another order than {case.view.layout}; expected the same")
    return tuple(
        Plan(tuple(axis[place] for axis in tiles), dict(found.axes), None) for place, found in enumerate(fields)
    )
