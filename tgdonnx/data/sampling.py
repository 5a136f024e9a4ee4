"""Samples and patches of samples: which ones an epoch holds, and how one is read, cut, scaled and transformed.

Where patches are cut and how they are transformed follows from the seed, the epoch and the place in the epoch alone, never
from what was read before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.data.augmentation import Transform, draw_transform
from tgdonnx.data.layouts import SPACE, View
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.levels import common_level, converted, shaped
from tgdonnx.data.matching import SampleSet
from tgdonnx.data.options import DataOptions
from tgdonnx.data.patches import Grid
from tgdonnx.data.scaling import Scaling
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec, shared_inputs


@dataclass(frozen=True)
class Pick:
    """One sample or patch: of which group, which sample of it, where, and how it is transformed."""

    group: int
    sample: int
    corner: Optional[tuple[int, ...]] = None
    transform: Transform = field(default_factory=Transform)


@dataclass(frozen=True)
class Levels:
    """Inputs without an axis of samples; see `tgdonnx.data.levels`.

    Attributes:
        common: by the place of an input, the value that it has in all batches.
        single: the names of those whose values differ between samples.
    """

    common: Mapping[int, Array]
    single: tuple[str, ...]


@dataclass(frozen=True)
class Sampler:
    """Which samples there are, and how one is read.

    Attributes:
        inputs: what a step is fed.
        options: how samples are varied.
        sets: the samples of every group.
        grids: the patches of every group.
        scaling: of intensities; None for none.
    """

    inputs: tuple[TensorSpec, ...]
    options: DataOptions
    sets: tuple[SampleSet, ...]
    grids: tuple[Grid, ...]
    scaling: Optional[Scaling]

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([sample_set.count for sample_set in self.sets])

    @cached_property
    def _tile_ends(self) -> NDArray[np.int64]:
        return np.cumsum([sample_set.count * grid.tiles() for sample_set, grid in zip(self.sets, self.grids)])

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return int(self._ends[-1])

    def count(self, *, training: bool) -> int:
        """Returns how many samples or patches an epoch has, or an evaluation: every sample, or tiles that cover it."""
        if self.options.patch is None:
            return self.samples
        return (self.options.patches_per_epoch if training else None) or int(self._tile_ends[-1])

    def pick(self, place: int, epoch: Optional[int], seed: int) -> Pick:
        """Returns what is at a place of an epoch; of evaluation, if ``epoch`` is None."""
        if epoch is None and self.options.patch is not None:
            group, inside = _locate(self._tile_ends, place)
            grid = self.grids[group]
            sample, tile = divmod(inside, grid.tiles())
            return Pick(group, sample, grid.tile(tile))
        if epoch is None:
            return Pick(*_locate(self._ends, place))
        # SeedSequence does not tell [a, b] from [a, b, 0].
        generator = np.random.default_rng([seed, epoch, place + 1])
        if self.options.patch is None:
            return Pick(*_locate(self._ends, place), transform=self._draw_transform(generator))
        group, sample = _locate(self._ends, int(generator.integers(self.samples)))
        return Pick(group, sample, self.grids[group].corner(generator), self._draw_transform(generator))

    def read(self, pick: Pick) -> list[Array]:
        """Reads one sample or patch: an array per input.

        Raises:
            DataError: a file cannot be read, or a value is not finite.
        """
        sample_set, grid = self.sets[pick.group], self.grids[pick.group]
        arrays = []
        for index, (spec, view) in enumerate(zip(self.inputs, sample_set.views)):
            if index in self.levels.common:
                arrays.append(self.levels.common[index])
                continue
            window = grid.window(pick.corner, index) if pick.corner is not None else None
            values = self._scaled(spec, view, view.read(pick.sample, spec.name, window))
            if spec.name in self.levels.single:
                values = shaped(converted(values, spec, view.stored.place), spec)
            arrays.append(pick.transform.apply(self._cropped(index, view, values), view.axes))
        return arrays

    @property
    def shared(self) -> frozenset[int]:
        """The places of inputs of which a batch has one value, without an axis of samples."""
        single = {place for place, spec in enumerate(self.inputs) if spec.name in self.levels.single}
        return frozenset(self.levels.common) | single

    def join(self, samples: Sequence[Sequence[Array]]) -> list[Array]:
        """Returns samples as a batch."""
        shared = self.shared
        return [arrays[0] if place in shared else np.stack(arrays) for place, arrays in enumerate(zip(*samples))]

    def place(self, pick: Pick, index: int) -> str:
        """Returns where an input of a sample lies, for messages."""
        return f"{self.sets[pick.group].views[index].stored.place}, sample {pick.sample}"

    @cached_property
    def levels(self) -> Levels:
        """Inputs without an axis of samples.

        Raises:
            DataError: as `read`; a value does not fit its input.
        """
        common, single = {}, []
        shared = shared_inputs(self.inputs)
        for place, spec in enumerate(self.inputs):
            views = [sample_set.views[place] for sample_set in self.sets]
            if place not in shared and all(view.counts_samples for view in views):
                continue
            level = common_level(views, spec.name)
            if level is None:
                single.append(spec.name)
            else:
                value = self._scaled(spec, views[0], level)
                common[place] = shaped(converted(value, spec, views[0].stored.place), spec)
        return Levels(common, tuple(single))

    def _cropped(self, place: int, view: View, values: Array) -> Array:
        """Returns the centre of a target; of an odd border the larger half is at the end."""
        border = self.options.crop_target
        if not isinstance(border, tuple) or self.inputs[place].role == "input":
            return values
        cut = iter(border)
        parts = []
        for letter, size in zip(view.axes, values.shape):
            less = next(cut) if letter in SPACE else 0
            parts.append(slice(less // 2, less // 2 + size - less))
        return values[tuple(parts)]

    def _draw_transform(self, generator: np.random.Generator) -> Transform:
        if not self.options.augment:
            return Transform()
        axes = {letter for view in self.sets[0].views for letter in view.space}
        return draw_transform(self.options.augment, "".join(x for x in SPACE if x in axes), generator)

    def _scaled(self, spec: TensorSpec, view: View, values: Array) -> Array:
        linear = self.scaling.arrays.get(spec.name) if self.scaling is not None else None
        if linear is not None:
            values = linear.apply(values, view.axes.find("C")) if spec.dtype == "float32" else values.astype(spec.dtype)
            if spec.dtype == "float32" and not np.isfinite(values).all():
                raise DataError(f"{view.stored.place}: {spec.name!r} is too large for float32 once scaled")
        return values


def _locate(ends: NDArray[np.int64], place: int) -> tuple[int, int]:
    """Returns in which group a place lies, and where in it."""
    group = int(np.searchsorted(ends, place, "right"))
    return group, place - (int(ends[group - 1]) if group else 0)
