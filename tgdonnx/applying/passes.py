"""Runs of a model over a case: every batch of samples, tile by tile, and all outputs at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tgdonnx.applying.feeding import Case, named
from tgdonnx.applying.network import ImageNetwork
from tgdonnx.applying.tiles import Tile
from tgdonnx.data.layouts import SPACE
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError


@dataclass(frozen=True)
class Pass:
    """A run of the model.

    Attributes:
        samples: of the case, that it ran on.
        tile: its place along each axis of space.
        outputs: as the model gives them, by their names, without what fills a batch up.
        fed: the image, as it is handled, without that too.
    """

    samples: range
    tile: tuple[int, ...]
    outputs: Mapping[str, Array]
    fed: Array


@dataclass(frozen=True)
class Passes:
    """How a model runs over a case.

    Attributes:
        network: the model.
        case: the data.
        tiles: per axis of space of a sample; those of all outputs lie at the same places.
        whole: whether it runs on whole images only, which may differ in size.
    """

    network: ImageNetwork
    case: Case
    tiles: tuple[tuple[Tile, ...], ...]
    whole: bool

    @property
    def steps(self) -> int:
        """How often the model runs."""
        return -(-self.case.view.count // self.case.batch) * math.prod(map(len, self.tiles))

    @cached_property
    def first(self) -> Pass:
        """The run on the last tile of the first samples, which tells what outputs are like."""
        return self._run(self._batches[0], tuple(len(tiles) - 1 for tiles in self.tiles))

    def all(self) -> Iterator[Pass]:
        """Yields every run, each made when it is asked for.

        Raises:
            DataError: the model cannot be run, or an output does not count samples.
        """
        for samples, tile in itertools.product(self._batches, itertools.product(*(range(len(t)) for t in self.tiles))):
            known = (samples, tile) == (self.first.samples, self.first.tile)
            yield self.first if known else self._run(samples, tile)

    @property
    def _batches(self) -> list[range]:
        count, size = self.case.view.count, self.case.batch
        return [range(start, min(count, start + size)) for start in range(0, count, size)]

    def _run(self, samples: range, tile: Sequence[int]) -> Pass:
        letters = [letter for letter in self.case.view.axes if letter in SPACE]
        cut = [tiles[place] for tiles, place in zip(self.tiles, tile)]
        window = {letter: slice(each.start, each.stop) for letter, each in zip(letters, cut)}
        feeds = self.case.feeds(samples, None if self.whole else window)
        found, image = self.network.run(feeds, self.network.outputs), self.network.image.name
        if "N" not in self.network.letters(image, self.case.view.layout):
            return Pass(samples, tuple(tile), found, feeds[image])
        for name, output in found.items():
            if not output.ndim or len(output) != self.case.batch:
                raise DataError(
                    f"the output {name!r} has the shape {list(output.shape)} for {self.case.batch} samples of "
                    f"{named(feeds)}; expected an axis that counts samples"
                )
        count = len(samples)
        kept = {name: output[:count] for name, output in found.items()}
        return Pass(samples, tuple(tile), kept, feeds[image][:count])
