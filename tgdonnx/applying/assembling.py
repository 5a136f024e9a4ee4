"""Results put together from tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np

from tgdonnx.applying.network import ImageNetwork
from tgdonnx.applying.tiles import Tile
from tgdonnx.data.layouts import SPACE, View
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.scaling import Scaling
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TARGET

_Index = tuple[Union[int, slice], ...]


@dataclass(frozen=True)
class Assembly:
    """How a result is made.

    Attributes:
        network: what computes it.
        view: the data as samples.
        scaling: of the data; None if it is not scaled.
        plan: per axis of space of a sample the tiles.
    """

    network: ImageNetwork
    view: View
    scaling: Optional[Scaling]
    plan: tuple[tuple[Tile, ...], ...]

    @property
    def batch(self) -> int:
        """Samples per run of the model."""
        shape = self.network.input.shape
        return (shape[0] if shape else None) or 1

    @property
    def tiles(self) -> int:
        """Tiles of a sample."""
        return math.prod(map(len, self.plan))

    def outline(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Returns shape and dtype of the result, in the axes of the data; the last tile of a sample tells.

        Raises:
            DataError: the output is no image, or has channels that the data has no axis for.
        """
        tiles = tuple(tiles[-1] for tiles in self.plan)
        found = self._compute((0,), tiles)
        sizes = dict(zip(self.view.source, self.view.stored.shape))
        sizes["C"] = found.shape[1] if "C" in self.view.axes else 1
        if "C" in self.view.axes and "C" not in self.view.source:
            self._middle(found.shape[1])
        space = [place for place, letter in enumerate(self.view.axes, 1) if letter in SPACE]
        for place, tile in zip(space, tiles):
            sizes[self.view.axes[place - 1]] = tile.origin + found.shape[place]
        return tuple(sizes[letter] for letter in self.view.source), found.dtype

    def fill(self, array: Array) -> None:
        """Computes the result into an array of the shape of `outline`."""
        starts = range(0, self.view.count, self.batch)
        for start, tiles in itertools.product(starts, itertools.product(*self.plan)):
            samples = range(start, min(self.view.count, start + self.batch))
            values = self._compute(samples, tiles)
            for sample, piece in zip(samples, values):
                index, part = self._placed(sample, piece, tiles)
                array[index] = part

    def _compute(self, samples: Sequence[int], tiles: tuple[Tile, ...]) -> Array:
        """Returns what the model gives for tiles of samples, in the units of the data."""
        name = self.network.input.name
        letters = [letter for letter in self.view.axes if letter in SPACE]
        window = {letter: slice(tile.start, tile.stop) for letter, tile in zip(letters, tiles)}
        batch = np.stack([self.view.read(sample, name, window) for sample in samples])
        linear = self.scaling.arrays.get(name) if self.scaling is not None else None
        if linear is not None:
            batch = linear.apply(batch, 1 + self.view.axes.find("C"))
        # A model of a fixed batch size gets its last samples several times.
        filled = batch[np.minimum(np.arange(self.batch), len(samples) - 1)]
        found = self.network.run(filled)[: len(samples)]
        if found.ndim != batch.ndim or len(found) != len(samples):
            raise DataError(
                f"the output {self.network.output!r} has the shape {list(found.shape)} for an input of {list(batch.shape)}, so "
                "it is no image"
            )
        return found if self.scaling is None else self.scaling.undo(found, TARGET)

    def _placed(self, sample: int, values: Array, tiles: tuple[Tile, ...]) -> tuple[_Index, Array]:
        """Returns where to put what of an output."""
        axes, source = self.view.axes, self.view.source
        places: dict[str, Union[int, slice]] = {"C": slice(None)}
        parts: list[slice] = [slice(None)] * len(axes)
        remaining = iter(tiles)
        for position, letter in enumerate(axes):
            if letter in SPACE:
                tile = next(remaining)
                stop = tile.origin + values.shape[position] if tile.last is None else tile.last
                places[letter] = slice(tile.first, stop)
                parts[position] = slice(tile.first - tile.origin, stop - tile.origin)
        values = values[tuple(parts)]
        if "C" in axes and "C" not in source:
            values, axes = values[self._middle(len(values))], axes.replace("C", "")
        depth = dict(zip(source, self.view.stored.shape))["D"] if "D" in source and "D" not in axes else 1
        places["N"], sliced = divmod(sample, depth)
        places.setdefault("D", sliced)
        order = [axes.index(letter) for letter in source if letter in axes]
        return tuple(places.get(letter, slice(None)) for letter in source), values.transpose(order)

    def _middle(self, channels: int) -> int:
        """Returns the channel that is kept where the data has no axis for channels."""
        if channels == 1:
            return 0
        if channels == self.view.stack:
            return channels // 2
        raise DataError(
            f"the model gives {channels} channels, and data of axes {self.view.source} have none; expected a model that gives "
            "one, or as many as there are slices in a stack"
        )
