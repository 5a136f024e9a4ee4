"""Batches for a training step.

Which samples a batch holds, where patches are cut and how they are turned follows from the seed, the epoch and the place in
the epoch alone, never from what was read before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tgdonnx.data.augmentation import Turn, draw_turn, require_turnable
from tgdonnx.data.content import examine, first_outside
from tgdonnx.data.layouts import SPACE, View
from tgdonnx.data.levels import common_level, converted, one_by_one, shaped
from tgdonnx.data.matching import match, scales_of
from tgdonnx.data.options import DataOptions
from tgdonnx.data.patches import Grid, grid_of, require_patch_fits
from tgdonnx.data.reading import Reader, Recipe, Stream
from tgdonnx.data.record import describe_arrays, describe_files, identity
from tgdonnx.data.remarks import conversions, describe_level, unseen
from tgdonnx.data.scaling import Linear, Scaling, measure, to_json
from tgdonnx.data.sources import Source
from tgdonnx.data.stored import Array
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec, fixed_batch, shared_inputs

# Once so many seconds have gone into making batches, a process takes over.
READER_PAYS = 1.0


@dataclass(frozen=True)
class _Pick:
    """One sample or patch: which case, which sample of it, where, and how it is turned."""

    member: int
    sample: int
    corner: Optional[tuple[int, ...]] = None
    turn: Turn = field(default_factory=Turn)


class Dataset:
    """Samples, or patches of samples, for a training step.

    Attributes:
        where: what was opened, for messages.
        inputs: what a step is fed, in order; the last is the target.
        options: how the data is varied.
        scaling: how intensities were scaled; None if they were not.
        remarks: what was done to the data, and what is worth knowing about it; nothing is done that is not said here.
    """

    def __init__(
        self,
        source: Source,
        inputs: Sequence[TensorSpec],
        options: DataOptions,
        *,
        scaling: Optional[Scaling] = None,
        ignored: Collection[str] = (),
        settled: bool = False,
    ) -> None:
        """Matches the data, looks at it and settles its scaling.

        Args:
            source: what was opened.
            inputs: what a step is fed.
            options: how the data is varied.
            scaling: of the data that is trained on, where this is to validate; None: from this data.
            ignored: names of arrays that may be there although they are not asked for.
            settled: all that was done before, elsewhere: the data is only matched.

        Raises:
            DataError: the data does not fit, values are not finite, a file is damaged, patches do not fit.
        """
        self.where = source.where
        self.inputs = tuple(inputs)
        self.options = options
        self._path = source.path
        self._ignored = tuple(ignored)
        self._members = match(source, inputs, options, ignored=ignored)
        self._grids = self._make_grids()
        self._require_turnable()
        self._target_range = None if settled else examine(self._members, inputs)
        self._target_limits: Optional[tuple[float, float, str]] = None
        self.scaling = scaling if settled or scaling is not None else self._measure()
        self._levels, self._single = self._find_levels()
        self.remarks = (
            *source.remarks,
            *conversions(self._members, self.inputs, options, self.scaling),
            *(describe_level(self.inputs[place], level) for place, level in self._levels.items()),
            *(() if settled or self._target_range is not None else (unseen(self.where, self._members),)),
        )
        self._reader: Optional[Reader] = None
        self._seconds = 0.0
        self._ends = np.cumsum([member.count for member in self._members])
        tiles = [m.count * grid.tiles() for m, grid in zip(self._members, self._grids)]
        self._tile_ends = np.cumsum(tiles)

    def __len__(self) -> int:
        if self.options.patch is None:
            return int(self._ends[-1])
        return self.options.patches_per_epoch or int(self._tile_ends[-1])

    def batches(
        self, size: int, *, epoch: Optional[int] = None, seed: int = 0, start: int = 0
    ) -> Iterator[list[Array]]:
        """Yields batches, the last one with what is left; a process reads ahead where reading takes long.

        Args:
            size: samples per batch.
            epoch: whose order, patches and turns to take. None for evaluation: every sample once, in fixed order, not
                turned; of patches, the tiles that cover every sample.
            seed: of the run.
            start: how many batches to skip; they are not read.

        Raises:
            DataError: a file cannot be read, or a value is not finite or out of the target's range.
        """
        stream = Stream(size, epoch, seed, start)
        made = self.make(stream)
        while self._reader is None or not self._reader.is_ready:
            begin = time.monotonic()
            batch = next(made, None)
            if batch is None:
                return
            self._seconds += time.monotonic() - begin
            yield batch
            stream = replace(stream, start=stream.start + 1)
            if self._seconds > READER_PAYS and self._reader is None and self._path is not None and sys.executable:
                self._reader = Reader(self._recipe(self._path))
        reader, self._reader = self._reader, None
        left = -(-self._total(epoch) // size) - stream.start
        for batch in reader.batches(stream, left):
            left -= 1
            if not left:
                self._reader = reader
            # A consumer that stops earlier leaves batches in the pipe; then the process ends with this generator.
            yield batch

    def batch(self, size: int, index: int) -> list[Array]:
        """Returns one batch of those for evaluation.

        Raises:
            DataError: as `batches`.
        """
        return next(self.make(Stream(size, None, 0, index)))

    @property
    def target_range(self) -> Optional[tuple[float, float]]:
        """The smallest and the largest value of the last input, as a step is fed them; None if not all were looked at."""
        if self._target_range is None:
            return None
        linear = self._linear(self.inputs[-1].name)
        if linear is None or self.inputs[-1].dtype != "float32":
            return self._target_range
        low, high = linear.apply(np.array(self._target_range)).tolist()
        return low, high

    def require_target(self, low: float, high: float, loss: str) -> None:
        """Checks, now if all data was looked at, and else with every batch, that targets are in a range.

        Raises:
            DataError: they are not.
        """
        self._target_limits = (low, high, loss)
        self._reader = None  # it does not know
        if self.target_range is not None and not self._in_limits(*self.target_range):
            spec = self.inputs[-1]
            linear = self._linear(spec.name) if spec.dtype == "float32" else None
            found = first_outside(self._members, spec.name, linear, low, high)
            assert found is not None
            raise DataError(self._outside(*self.target_range, found))

    @property
    def fixed_batch(self) -> Optional[int]:
        """The batch size that the model and the data fix; None if any goes."""
        return 1 if self._single else fixed_batch(self.inputs)

    @property
    def shared(self) -> frozenset[int]:
        """The places of inputs of which a batch has one value, without an axis of samples."""
        return frozenset(self._levels) | {place for place, spec in enumerate(self.inputs) if spec.name in self._single}

    def require_batch(self, size: int) -> None:
        """Checks that samples can share batches of a size.

        Raises:
            DataError: an input has no axis of samples, but differs between samples.
        """
        if size > 1 and self._single:
            raise one_by_one(self._single[0])

    def describe(self) -> Mapping[str, Any]:
        """Returns what a run's record says of the data, as plain values."""
        options = self.options
        scaled = self.scaling.arrays if self.scaling is not None else {}
        return {
            "where": self.where,
            "identity": self.identity,
            "cases": len(self._members),
            "samples": int(self._ends[-1]),
            "per_epoch": len(self),
            "files": self._files,
            "arrays": describe_arrays(self._members, self.inputs),
            "options": json.loads(json.dumps(asdict(options))),
            "scaling": {name: to_json(linear) for name, linear in scaled.items()},
            "remarks": list(self.remarks),
        }

    @cached_property
    def identity(self) -> str:
        """A hash of what batches depend on; see `tgdonnx.data.record`."""
        return identity(self._files, self._members, self.inputs, self.options)

    @cached_property
    def _files(self) -> list[dict[str, Any]]:
        return describe_files(self._members)

    def _recipe(self, path: Path) -> Recipe:
        names = tuple(member.name for member in self._members)
        return Recipe(path, names, self.inputs, self.options, self.scaling, self._ignored, self._target_limits)

    def make(self, stream: Stream) -> Iterator[list[Array]]:
        """Yields batches as `batches` does, made here, when they are asked for."""
        size, epoch, seed = stream.size, stream.epoch, stream.seed
        order = None
        if epoch is not None and self.options.patch is None:
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
        self.require_batch(size)
        total = self._total(epoch)
        for first in range(stream.start * size, total, size):
            places = np.arange(first, min(total, first + size))
            if order is not None:
                # Sorted access is kind to files on disk; the order within a batch does not matter to a mean.
                places = np.sort(order[places])
            picks = [self._pick(int(place), epoch, seed) for place in places]
            samples = [self._read(pick) for pick in picks]
            if self._target_limits is not None:
                self._require_in_limits(picks, [sample[-1] for sample in samples])
            yield [self._join(place, arrays) for place, arrays in enumerate(zip(*samples))]

    def _total(self, epoch: Optional[int]) -> int:
        return len(self) if epoch is not None or self.options.patch is None else int(self._tile_ends[-1])

    def _pick(self, place: int, epoch: Optional[int], seed: int) -> _Pick:
        if epoch is None and self.options.patch is not None:
            member = int(np.searchsorted(self._tile_ends, place, "right"))
            grid = self._grids[member]
            sample, tile = divmod(place - (int(self._tile_ends[member - 1]) if member else 0), grid.tiles())
            return _Pick(member, sample, grid.tile(tile))
        if epoch is None:
            return _Pick(*self._locate(place))
        # SeedSequence does not tell [a, b] from [a, b, 0].
        generator = np.random.default_rng([seed, epoch, place + 1])
        if self.options.patch is None:
            return _Pick(*self._locate(place), turn=self._draw_turn(generator))
        member, sample = self._locate(int(generator.integers(int(self._ends[-1]))))
        return _Pick(member, sample, self._grids[member].corner(generator), self._draw_turn(generator))

    def _locate(self, sample: int) -> tuple[int, int]:
        member = int(np.searchsorted(self._ends, sample, "right"))
        return member, sample - (int(self._ends[member - 1]) if member else 0)

    def _draw_turn(self, generator: np.random.Generator) -> Turn:
        if not self.options.augmentation:
            return Turn()
        axes = {letter for view in self._members[0].views for letter in view.space}
        return draw_turn(self.options.augmentation, "".join(x for x in SPACE if x in axes), generator)

    def _read(self, pick: _Pick) -> list[Array]:
        member = self._members[pick.member]
        arrays = []
        for index, (spec, view) in enumerate(zip(self.inputs, member.views)):
            if index in self._levels:
                arrays.append(self._levels[index])
                continue
            window = self._grids[pick.member].window(pick.corner, index) if pick.corner is not None else None
            values = self._scaled(spec, view, view.read(pick.sample, spec.name, window))
            if spec.name in self._single:
                values = shaped(converted(values, spec, view.stored.place), spec)
            arrays.append(pick.turn.apply(values, view.axes))
        return arrays

    def _scaled(self, spec: TensorSpec, view: View, values: Array) -> Array:
        linear = self._linear(spec.name)
        if linear is not None:
            values = linear.apply(values) if spec.dtype == "float32" else values.astype(spec.dtype)
            if spec.dtype == "float32" and not np.isfinite(values).all():
                raise DataError(f"{view.stored.place}: {spec.name!r} is too large for float32 once scaled")
        return values

    def _find_levels(self) -> tuple[dict[int, Array], tuple[str, ...]]:
        """Returns, of inputs without an axis of samples, the values that are the same in all batches, and those that differ."""
        levels, single = {}, []
        shared = shared_inputs(self.inputs)
        for place, spec in enumerate(self.inputs):
            views = [member.views[place] for member in self._members]
            if place not in shared and all(view.counts_samples for view in views):
                continue
            common = common_level(views, spec.name)
            if common is None:
                single.append(spec.name)
            else:
                value = self._scaled(spec, views[0], common)
                levels[place] = shaped(converted(value, spec, views[0].stored.place), spec)
        return levels, tuple(single)

    def _join(self, place: int, arrays: Sequence[Array]) -> Array:
        return arrays[0] if place in self.shared else np.stack(arrays)

    def _linear(self, name: str) -> Optional[Linear]:
        return self.scaling.arrays.get(name) if self.scaling is not None else None

    def _in_limits(self, low: float, high: float) -> bool:
        assert self._target_limits is not None
        return self._target_limits[0] <= low and high <= self._target_limits[1]

    def _require_in_limits(self, picks: Sequence[_Pick], targets: Sequence[Array]) -> None:
        """Checks the targets of the samples of a batch."""
        for pick, target in zip(picks, targets):
            if target.size and not self._in_limits(float(target.min()), float(target.max())):
                place = self._members[pick.member].views[-1].stored.place
                found = f"{place}, sample {pick.sample}"
                raise DataError(self._outside(float(target.min()), float(target.max()), found))

    def _outside(self, low: float, high: float, found: str) -> str:
        """Says that targets are out of range, and what would help."""
        assert self._target_limits is not None
        least, most, loss = self._target_limits
        name = self.inputs[-1].name
        between = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        said = f"the loss {loss} needs targets in {least:g} to {most:g}, found {between} ({found})"
        if loss == "ce":
            remedy = (
                "subtract 1 if they count from 1" if (low, high) == (1, most + 1) else "correct them, or leave them out"
            )
            return f"{said}: class indices of a model of {most + 1:g} classes; {remedy}"
        if self._target_range is not None and self._target_range[0] >= 0:
            return f"{said}; --scale {name}={self._target_range[1]!r} divides by the largest"
        return f"{said}; scale them to that, or train on values with --loss mse or l1"

    def _make_grids(self) -> tuple[Grid, ...]:
        patch = self.options.patch
        if patch is None:
            return tuple(Grid({}, {}, ()) for _ in self._members)
        grids = tuple(grid_of(member, self.inputs, patch) for member in self._members)
        require_patch_fits(self.inputs, self._members[0], grids[0])
        return grids

    def _require_turnable(self) -> None:
        grid, samples = self._grids[0], []
        for index, view in enumerate(self._members[0].views):
            window = grid.window(tuple(0 for _ in grid.size), index) if grid.size else None
            shape = (window[x].stop if window and x in window else s for x, s in zip(view.axes, view.shape))
            samples.append((view.axes, tuple(shape)))
        require_turnable(self.options.augmentation, self.inputs, samples)

    def _measure(self) -> Optional[Scaling]:
        """Computes the scaling; images of one kind share that of the first."""
        ways = scales_of(self.inputs, self.options)
        shared: Optional[Linear] = None
        found: dict[str, Linear] = {}
        for index, spec in enumerate(self.inputs):
            if spec.name not in ways:
                continue
            common = spec.name not in self.options.scales
            if common and shared is not None:
                found[spec.name] = shared
                continue
            stored = [member.views[index].stored for member in self._members]
            found[spec.name] = measure(ways[spec.name], spec.name, stored)
            shared = found[spec.name] if common else shared
        return Scaling(found) if found else None
