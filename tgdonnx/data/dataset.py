"""Batches for a training step.

Which samples a batch holds, where patches are cut and how they are transformed follows from the seed, the epoch and the place
in the epoch alone, never from what was read before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.data.augmentation import require_transformable
from tgdonnx.data.cases import Case, cases_of
from tgdonnx.data.content import find_outside, look_through
from tgdonnx.data.description import describe_arrays, describe_files, identity
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.levels import one_by_one
from tgdonnx.data.matching import differing_sizes, match
from tgdonnx.data.options import DataOptions
from tgdonnx.data.patches import grids_of, sample_shapes
from tgdonnx.data.problems import beside
from tgdonnx.data.recipe import Recipe
from tgdonnx.data.remarks import conversions, describe_level, left_out, unseen
from tgdonnx.data.sample_hashes import hashes_of_samples
from tgdonnx.data.sampling import Pick, Sampler
from tgdonnx.data.scaling import Linear, Scaling, to_json
from tgdonnx.data.sources import Source
from tgdonnx.data.targets import Search, TargetLimits
from tgdonnx.graphs.tensor_specs import TensorSpec, count_inputs, fixed_batch


class Dataset:
    """Samples, or patches of samples, for a training step.

    Attributes:
        where: what was opened, for messages.
        inputs: what a step is fed, in order; see `TensorSpec`.
        options: how the data is varied.
        scaling: how intensities were scaled; None if they were not.
        remarks: what was done to the data, and what is worth knowing about it; nothing is done that is not said here.
        problems: what is wrong with its classes; whoever opens it raises them, perhaps with what else is.
    """

    def __init__(
        self,
        source: Source,
        inputs: Sequence[TensorSpec],
        options: DataOptions,
        *,
        scaling: Optional[Scaling] = None,
        ignored: Collection[str] = (),
        examined: bool = False,
    ) -> None:
        """Matches the data, looks at it and measures its scaling.

        Args:
            source: what was opened.
            inputs: what a step is fed.
            options: how the data is varied.
            scaling: of the data that is trained on, where this is to validate; None: from this data.
            ignored: names of arrays of which nobody needs to hear that nothing takes them.
            examined: all that was done before, elsewhere: the data is only matched.

        Raises:
            DataError: the data does not fit, values are not finite, a file is damaged, patches do not fit; with ``problems``.
        """
        self.where = source.where
        self.inputs = tuple(inputs)
        self.options = options
        self._path, self._hashes = source.path, source.hashes
        self._ignored = tuple(ignored)
        self.problems = source.problems
        self._target_ranges: Optional[Mapping[str, tuple[float, float]]] = None
        self._limits: dict[str, TargetLimits] = {}
        self.scaling = scaling
        with beside(source.problems):
            self._sets = match(source, inputs, options, ignored=ignored)
            grids = grids_of(self._sets, self.inputs, options.patch)
            self._differing = differing_sizes(self._sets, inputs) if options.patch is None else None
            for sample_set, grid in zip(self._sets, grids):
                require_transformable(options.augment, self.inputs, sample_shapes(sample_set, grid))
            if not examined:
                look = look_through(self._sets, self.inputs, options, scaling)
                self.scaling, self._target_ranges = look.scaling, look.target_ranges
        self._sampler = Sampler(self.inputs, options, self._sets, grids, self.scaling)
        self.remarks = (
            *source.remarks,
            *left_out(self._sets, self.inputs),
            *conversions(self._sets, self.inputs, options, self.scaling),
            *(describe_level(self.inputs[place], level) for place, level in self._sampler.levels.common.items()),
            *(() if examined or self._target_ranges is not None else (unseen(self.where, self._sets),)),
        )

    def __len__(self) -> int:
        return self._sampler.count(training=True)

    def batches(
        self, size: int, *, epoch: Optional[int] = None, seed: int = 0, start: int = 0
    ) -> Iterator[list[Array]]:
        """Yields batches, the last one with what is left, each made when it is asked for.

        Args:
            size: samples per batch.
            epoch: whose order, patches and transforms to take. None for evaluation: every sample once, in fixed order, not
                transformed; of patches, the tiles that cover every sample.
            seed: of the run.
            start: how many batches to skip; they are not read.

        Raises:
            DataError: a file cannot be read, or a value is not finite or out of the target's range.
        """
        order = None
        if epoch is not None and self.options.patch is None:
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
        self.require_batch(size)
        total = self._sampler.count(training=epoch is not None)
        for first in range(start * size, total, size):
            places = np.arange(first, min(total, first + size))
            if order is not None:
                # Sorted access is kind to files on disk; the order within a batch does not matter to a mean.
                places = np.sort(order[places])
            picks = [self._sampler.pick(int(place), epoch, seed) for place in places]
            samples = [self._sampler.read(pick) for pick in picks]
            self._require_in_limits(picks, samples)
            yield self._sampler.join(samples)

    def count_batches(self, size: int, *, epoch: Optional[int] = None) -> int:
        """Returns how many batches `batches` yields from the first on."""
        return -(-self._sampler.count(training=epoch is not None) // size)

    def batch(self, size: int, index: int) -> list[Array]:
        """Returns one batch of those for evaluation.

        Raises:
            DataError: as `batches`.
        """
        return next(self.batches(size, start=index))

    def target_range(self, name: str) -> Optional[tuple[float, float]]:
        """Returns the smallest and the largest value of a target, as a step is fed it; None if not all were looked at."""
        if self._target_ranges is None:
            return None
        linear, stored = self._target_scaling(name), self._target_ranges[name]
        if linear is None:
            return stored
        low, high = linear.apply(np.array(stored)).tolist()
        return low, high

    def require_target(self, limits: TargetLimits) -> None:
        """Checks, now if all data was looked at, and else with every batch, that a target is in a range.

        Raises:
            DataError: it is not.
        """
        self._limits[limits.name] = limits
        if self.problems:
            return  # labels of classes that the model lacks are out of range, which these say better
        found = self.target_range(limits.name)
        if found is not None and not (limits.low <= found[0] and found[1] <= limits.high):
            place = [spec.name for spec in self.inputs].index(limits.name)
            outside = find_outside(self._sets, place, self._target_scaling(limits.name), limits)
            if outside is not None:
                raise limits.error(outside)

    def axes_of(self, place: int) -> str:
        """Returns the layout of a sample of the input at a place."""
        return self._sets[0].views[place].axes

    def first_of_each_size(self) -> Iterator[list[Array]]:
        """Yields a sample, as a batch, of every size that samples have; of patches one.

        Raises:
            DataError: as `batches`.
        """
        before = set()
        ends = np.cumsum([0, *(sample_set.count for sample_set in self._sets)])
        for sample_set, first in zip(self._sets, ends):
            size = tuple(view.shape for view in sample_set.views)
            if size not in before and sample_set.count:
                before.add(size)
                yield self.batch(1, int(first))
            if self.options.patch is not None:
                return

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The samples, in order."""
        return cases_of(self._sets)

    def case_places(self) -> NDArray[np.int64]:
        """Returns of which case every sample of an evaluation is, in order: of patches, every tile."""
        first = np.cumsum([0, *(sample_set.count for sample_set in self._sets)])
        total = self._sampler.count(training=False)
        picks = (self._sampler.pick(place, None, 0) for place in range(total))
        return np.array([first[pick.group] + pick.sample for pick in picks], np.int64)

    def count_samples_of(self, other: Dataset) -> Optional[int]:
        """Returns how many samples have the inputs of one of another data set, which is read alike; None if there are too many.

        Raises:
            DataError: as `batches`.
        """
        if self._target_ranges is None or other._target_ranges is None:
            return None
        theirs = set(hashes_of_samples(other._sets, other.inputs))
        return sum(each in theirs for each in hashes_of_samples(self._sets, self.inputs))

    def input_files(self) -> tuple[frozenset[str], ...]:
        """Returns the files that the inputs of every group of samples are read from, as the record of a run names them."""
        count = count_inputs(self.inputs)
        return tuple(
            frozenset(str(path) for view in sample_set.views[:count] for path in view.stored.files)
            for sample_set in self._sets
        )

    @property
    def fixed_batch(self) -> Optional[int]:
        """The batch size that the model and the data fix; None if any goes."""
        return 1 if self._sampler.levels.single else fixed_batch(self.inputs)

    @property
    def shared(self) -> frozenset[int]:
        """The places of inputs of which a batch has one value, without an axis of samples."""
        return self._sampler.shared

    def require_batch(self, size: int) -> None:
        """Checks that samples can share batches of a size.

        Raises:
            DataError: an input has no axis of samples, but differs between samples; or samples differ in size.
        """
        if size > 1 and self._differing is not None:
            raise self._differing
        if size > 1 and self._sampler.levels.single:
            raise one_by_one(self._sampler.levels.single[0])

    def describe(self) -> Mapping[str, Any]:
        """Returns what a run's record says of the data, as plain values."""
        scaled = self.scaling.arrays if self.scaling is not None else {}
        return {
            "where": self.where,
            "identity": self.identity,
            "cases": len(self._sets),
            "samples": self._sampler.samples,
            "per_epoch": len(self),
            "files": self._files,
            "arrays": describe_arrays(self._sets, self.inputs),
            "options": json.loads(json.dumps(asdict(self.options))),
            "scaling": {name: to_json(linear) for name, linear in scaled.items()},
            "remarks": list(self.remarks),
        }

    @cached_property
    def identity(self) -> str:
        """A hash of what batches depend on; see `tgdonnx.data.description`."""
        return identity(self._files, self._sets, self.inputs, self.options)

    @cached_property
    def _files(self) -> list[dict[str, Any]]:
        return describe_files(self._sets, self._hashes)

    @property
    def recipe(self) -> Optional[Recipe]:
        """How another process can open the same data; None if it lies in memory."""
        if self._path is None:
            return None
        names = tuple(sample_set.name for sample_set in self._sets)
        limits = tuple(self._limits.values())
        return Recipe(self._path, names, self.inputs, self.options, self.scaling, self._ignored, limits)

    def _target_scaling(self, name: str) -> Optional[Linear]:
        spec = next(spec for spec in self.inputs if spec.name == name)
        return self.scaling.arrays.get(name) if self.scaling is not None and spec.dtype == "float32" else None

    def _require_in_limits(self, picks: Sequence[Pick], samples: Sequence[Sequence[Array]]) -> None:
        """Checks the targets of the samples of a batch."""
        for place, spec in enumerate(self.inputs):
            limits = self._limits.get(spec.name)
            for pick, sample in zip(picks, samples if limits is not None else ()):
                assert limits is not None
                search = Search(limits)
                search.add(sample[place], self._sampler.place(pick, place), (0,) * sample[place].ndim)
                outside = search.result((self._target_ranges or {}).get(spec.name))
                if outside is not None:
                    raise limits.error(outside)
