"""Results put together from tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional, Union

import numpy as np

from tgdonnx.applying.feeding import Case
from tgdonnx.applying.forms import OutputKind, Shaping
from tgdonnx.applying.network import restored
from tgdonnx.applying.passes import Pass, Passes
from tgdonnx.applying.tiles import Tile
from tgdonnx.data.layouts import SPACE, plain_axes
from tgdonnx.data.lazy_arrays import Array

_Index = tuple[Union[int, slice], ...]


@dataclass(frozen=True)
class Assembly:
    """How a result is made.

    Attributes:
        kind: of the output.
        passes: runs of the model, which give it with others.
        plan: per axis of space of a sample the tiles.
        space: for axes of the image the axes of the output that are these; empty where that is not known.
    """

    kind: OutputKind
    passes: Passes
    plan: tuple[tuple[Tile, ...], ...]
    space: Mapping[int, int]

    @property
    def case(self) -> Case:
        """The data."""
        return self.passes.case

    @property
    def tiles(self) -> int:
        """Tiles of a sample."""
        return math.prod(map(len, self.plan))

    @cached_property
    def axes(self) -> str:
        """The axes of the result: those of the data, with one of channels where the data has none and the result several.

        Of an output that is no image, samples and what the model gives.
        """
        view = self.case.view
        if not self._is_image:
            return f"N{plain_axes(self._first.ndim - 1)}"
        if self._channels is None or "C" in view.source or self.keeps_middle or self._first.shape[self._channels] == 1:
            return view.source
        if view.stored.layout in ("HW", "HWC"):  # pictures have their colours last
            return f"{view.source}C"
        return f"NC{view.source[1:]}" if view.source[0] == "N" else f"C{view.source}"

    @property
    def keeps_middle(self) -> bool:
        """Whether of the channels of the result, which are those of a stack of slices, the one in the middle is kept."""
        stack, wanted = (
            self.case.view.stack,
            self.kind.form in (None, "image") and self.kind.targets in (None, "values"),
        )
        axis = self._channels if self._is_image else None
        return wanted and stack > 1 and axis is not None and self._first.shape[axis] == stack

    @cached_property
    def shaping(self) -> Shaping:
        """What becomes of the output."""
        view = self.case.view
        channels = dict(zip(view.axes, view.shape)).get("C", 1)
        return self.kind.shaping(self._raw, channels, self._channels if self._is_image else None)

    def outline(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Returns shape and dtype of the result, in its axes; the last tile of a sample tells.

        Raises:
            DataError: the model cannot be run, or its output does not count samples.
        """
        view, first = self.case.view, self._first
        if not self._is_image:
            return (view.count, *first.shape[1:]), first.dtype
        sizes = dict(zip(view.source, view.stored.shape))
        if self._channels is not None:
            sizes["C"] = 1 if self.keeps_middle else first.shape[self._channels]
        for letter, tiles in zip(self._letters, self.plan):
            sizes[letter] = tiles[-1].origin + first.shape[view.layout.index(letter)]
        return tuple(sizes[letter] for letter in self.axes), first.dtype

    def put(self, array: Array, found: Pass) -> None:
        """Puts what a run gives of it into an array of the shape of `outline`."""
        values = self._first if found is self.passes.first else self._shaped(self._as_handled(found))
        tiles = tuple(each[place] for each, place in zip(self.plan, found.tile))
        for sample, piece in zip(found.samples, values):
            if self._is_image:
                index, part = self._placed(sample, piece, tiles)
                array[index] = part
            else:
                array[sample] = piece

    @property
    def _letters(self) -> list[str]:
        return [letter for letter in self.case.view.axes if letter in SPACE]

    @property
    def _channels(self) -> Optional[int]:
        """The axis of channels of what the model gives, of images."""
        layout = self.case.view.layout
        return layout.index("C") if "C" in layout else None

    @cached_property
    def _is_image(self) -> bool:
        return bool(self._letters) and self._restored(self.passes.first) is not None

    @cached_property
    def _raw(self) -> Array:
        return self._as_handled(self.passes.first)

    @cached_property
    def _first(self) -> Array:
        return self._shaped(self._raw)

    def _as_handled(self, found: Pass) -> Array:
        """Returns the output with the axes of the image as it is handled, or with samples and what the model gives."""
        if not self._is_image:
            output = found.outputs[self.kind.name]
            return output if "N" in self._model_letters else output[np.newaxis]
        image = self._restored(found)
        assert image is not None, "an output has the same axes for every tile"
        return image

    def _restored(self, found: Pass) -> Optional[Array]:
        layout = self.case.view.layout
        return restored(found.outputs[self.kind.name], self._model_letters, layout, self.space, found.fed)

    @property
    def _model_letters(self) -> str:
        network = self.passes.network
        return network.letters(network.image.name, self.case.view.layout)

    def _shaped(self, found: Array) -> Array:
        axis = self._channels if self._is_image else (1 if found.ndim > 1 else None)
        return self.shaping.apply(found, axis)

    def _placed(self, sample: int, values: Array, tiles: tuple[Tile, ...]) -> tuple[_Index, Array]:
        """Returns where to put what of an output."""
        view, axes = self.case.view, self.case.view.axes
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
        if "C" in axes and "C" not in self.axes:
            middle = values.shape[axes.index("C")] // 2
            values, axes = values.take(middle, axes.index("C")), axes.replace("C", "")
        depth = dict(zip(view.source, view.stored.shape))["D"] if "D" in view.source and "D" not in axes else 1
        places["N"], sliced = divmod(sample, depth)
        places.setdefault("D", sliced)
        order = [axes.index(letter) for letter in self.axes if letter in axes]
        return tuple(places.get(letter, slice(None)) for letter in self.axes), values.transpose(order)
