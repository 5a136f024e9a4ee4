"""Where patches lie: the same place in every array of a sample, whatever its resolution.

Arrays of one sample may differ in size by whole factors, such as the target of a network that doubles its input. The
coarsest array is the grid: corners are drawn on its pixels, and the others are cut at the same place of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tgdonnx.data.layouts import View, Window
from tgdonnx.data.matching import SampleSet
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec


@dataclass(frozen=True)
class Grid:
    """The patches of one group's samples.

    Attributes:
        size: of the grid, per axis of space.
        patch: in pixels of the grid.
        factors: per array how many of its pixels one pixel of the grid is; None where it has no axes of space.
    """

    size: dict[str, int]
    patch: dict[str, int]
    factors: tuple[dict[str, int] | None, ...]

    def tiles(self) -> int:
        """Returns how many patches cover a sample."""
        return prod(-(-self.size[letter] // self.patch[letter]) for letter in self.size)

    def tile(self, index: int) -> tuple[int, ...]:
        """Returns the corner of a tile; the last of a row is moved back to lie inside."""
        counts = [-(-self.size[letter] // self.patch[letter]) for letter in self.size]
        places = np.unravel_index(index, counts)
        return tuple(
            min(int(place) * self.patch[letter], self.size[letter] - self.patch[letter])
            for place, letter in zip(places, self.size)
        )

    def corner(self, generator: np.random.Generator) -> tuple[int, ...]:
        """Draws a corner; every place is as likely."""
        return tuple(int(generator.integers(self.size[letter] - self.patch[letter] + 1)) for letter in self.size)

    def window(self, corner: tuple[int, ...], array: int) -> Window | None:
        """Returns where to cut an array; None where it is taken whole."""
        factors = self.factors[array]
        if factors is None:
            return None
        return {
            letter: slice(start * factors[letter], (start + self.patch[letter]) * factors[letter])
            for letter, start in zip(self.size, corner)
        }


def grids_of(
    sets: Sequence[SampleSet], inputs: Sequence[TensorSpec], patch: tuple[int, ...] | None
) -> tuple[Grid, ...]:
    """Returns the grid of every group; one without axes where samples are taken whole.

    Raises:
        DataError: as `grid_of`, or the model fixes another size than that of a patch.
    """
    if patch is None:
        return tuple(Grid({}, {}, ()) for _ in sets)
    grids = tuple(grid_of(sample_set, inputs, patch) for sample_set in sets)
    require_patch_fits(inputs, sets[0], grids[0])
    return grids


def sample_shapes(sample_set: SampleSet, grid: Grid) -> list[tuple[str, tuple[int, ...]]]:
    """Returns axes and shape of each array of a sample, or of a patch of it."""
    found = []
    for index, view in enumerate(sample_set.views):
        window = grid.window(tuple(0 for _ in grid.size), index) if grid.size else None
        sizes = (window[x].stop if window and x in window else size for x, size in zip(view.axes, view.shape))
        found.append((view.axes, tuple(sizes)))
    return found


def grid_of(sample_set: SampleSet, inputs: Sequence[TensorSpec], patch: tuple[int, ...]) -> Grid:
    """Returns the grid of a group.

    Args:
        sample_set: the group.
        inputs: what a training step is fed.
        patch: size in pixels of the first array that has axes of space; a single one is for all of them.

    Raises:
        DataError: there is no such array, it has another number of axes, is smaller than a patch, or the arrays do not lie on
            one grid.
    """
    spaces = [view.space for view in sample_set.views]
    lead = next((index for index, space in enumerate(spaces) if space), None)
    if lead is None:
        raise DataError(
            f"{sample_set.name}: no array has axes of space to cut patches from", remedy="leave out `patch`"
        )
    patch = along_axes(patch, len(spaces[lead]))
    if len(spaces[lead]) != len(patch):
        raise DataError(
            f"a patch of {'x'.join(map(str, patch))} does not go with the axes {', '.join(spaces[lead])} of "
            f"{inputs[lead].name!r}; expected {len(spaces[lead])} sizes"
        )
    wanted = dict(zip(spaces[lead], patch))
    place = sample_set.views[lead].stored.place
    for letter, least in wanted.items():
        if spaces[lead][letter] < least:
            fits = tuple(min(space, wanted[x]) for x, space in spaces[lead].items())
            found = f"{letter} is {spaces[lead][letter]}, the patch {least}"
            raise DataError(f"{place} is smaller than a patch: {found}; `patch={fits}` fits it")
    images = [space for space in spaces if space]
    size = {letter: min(space.get(letter, 0) for space in images) for letter in wanted}
    for spec, view, space in zip(inputs, sample_set.views, spaces):
        if space and (set(space) != set(size) or any(not size[x] or space[x] % size[x] for x in size)):
            raise DataError(
                f"{view.stored.place}: {spec.name!r} of size {_size(space)} does not lie on the grid of {_size(size)}; patches "
                "need arrays whose sizes are whole multiples of each other"
            )
    factors = tuple({x: space[x] // size[x] for x in size} if space else None for space in spaces)
    lead_factors = factors[lead]
    assert lead_factors is not None
    for letter in size:
        if wanted[letter] % lead_factors[letter]:
            raise DataError(
                f"a patch of {'x'.join(map(str, patch))} is no whole number of pixels in the coarser array of "
                f"{sample_set.name}; expected a multiple of {lead_factors[letter]} along {letter}"
            )
    return Grid(size, {x: wanted[x] // lead_factors[x] for x in size}, factors)


def along_axes(patch: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """Returns the size of a patch along every axis of space; a single one is for all of them."""
    return patch * axes if len(patch) == 1 else patch


def require_patch_fits(inputs: Sequence[TensorSpec], sample_set: SampleSet, grid: Grid) -> None:
    """Checks that the model takes patches of this size.

    Raises:
        DataError: it fixes another one.
    """
    for index, (spec, view) in enumerate(zip(inputs, sample_set.views)):
        window = grid.window(tuple(0 for _ in grid.size), index)
        if spec.shape is None or window is None:
            continue
        for letter, size in zip(view.layout, spec.shape):
            if letter in window and size is not None and size != window[letter].stop:
                raise DataError(
                    f"the model fixes {letter} of {spec.name!r} at {size}; a patch would give it {window[letter].stop}"
                    + _fixed_hint(spec, view, index, sample_set)
                )


def _fixed_hint(spec: TensorSpec, view: View, index: int, sample_set: SampleSet) -> str:
    """Returns which patch would fit, where the input is the one whose pixels a patch is given in."""
    lead = next(place for place, other in enumerate(sample_set.views) if other.space)
    fixed = {x: s for x, s in zip(view.layout, spec.shape or ()) if x in view.space}
    if index != lead or None in fixed.values():
        return ""
    return f"; `patch={tuple(fixed.values())}` fits it"


def _size(space: dict[str, int]) -> str:
    return "x".join(str(size) for size in space.values())
