"""Both files over a data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest
from tgdonnx.artifacts.manifest import Head
from tgdonnx.data import Dataset
from tgdonnx.data.cases import Case
from tgdonnx.errors import DataError
from tgdonnx.evaluating.found import (
    Classes,
    ClassesCollector,
    Regions,
    RegionsCollector,
    Values,
    ValuesCollector,
)
from tgdonnx.evaluating.running import NotShownError, Runner, centre
from tgdonnx.finetuning.measures import RANGED, Reader, class_names, metrics_for, readers_in, task_of
from tgdonnx.finetuning.metrics import MetricName, Task, is_plain
from tgdonnx.finetuning.noise2noise import METRICS_OF_NOISE
from tgdonnx.finetuning.session import weights_of
from tgdonnx.graphs.tensor_specs import count_inputs

Array = NDArray[Any]
Found = Union[Values, Classes, Regions]
_SAMPLES_AT_ONCE = 8
_MOST_AT_ONCE = 2**20  # numbers of a sample; volumes go one by one


@dataclass(frozen=True)
class Output:
    """What both files make of an output.

    Attributes:
        name: of the output.
        task: what it is.
        metrics: what is measured of it.
        classes: their names; of masks those of channels, of values none.
        data_range: that psnr and ssim are taken with; None where neither is.
        before: of the vendor's file.
        after: of the tuned one.
    """

    name: str
    task: Task
    metrics: tuple[MetricName, ...]
    classes: tuple[str, ...]
    data_range: Optional[float]
    before: Found
    after: Found


@dataclass(frozen=True)
class Evaluation:
    """Both files on the same data.

    Attributes:
        data: what the data was, in words.
        fingerprint: a hash of the data, and of how it was read.
        cases: its samples.
        outputs: those that train, in order.
    """

    data: str
    fingerprint: str
    cases: tuple[Case, ...]
    outputs: tuple[Output, ...]

    def measures(self) -> dict[str, tuple[Output, MetricName]]:
        """Returns what was measured, by the names that logs have for it: of several outputs such as ``scores dice``."""
        several = len(self.outputs) > 1
        return {
            f"{output.name} {metric}" if several else metric: (output, metric)
            for output in self.outputs
            for metric in output.metrics
        }


@dataclass(frozen=True)
class Evaluated:
    """How an output is measured.

    Attributes:
        head: the output.
        place: among those that train.
        reader: turns it into what its target is.
        metrics: what is measured of it.
        plain: whether it is one class per sample.
        classes: their names, of a mask those of channels; none of values.
        data_range: for psnr and ssim.
    """

    head: Head
    place: int
    reader: Reader
    metrics: tuple[MetricName, ...]
    plain: bool
    classes: tuple[str, ...]
    data_range: Optional[float]

    def against_noise(self) -> Evaluated:
        """Returns how it is measured where targets are noisy, too."""
        return replace(self, metrics=tuple(name for name in self.metrics if name in METRICS_OF_NOISE), data_range=None)

    def collector(self, cases: int) -> Union[ValuesCollector, ClassesCollector, RegionsCollector]:
        """Returns what collects the numbers of a file."""
        if self.plain:
            return ClassesCollector(cases, len(self.classes))
        if self.classes:
            return RegionsCollector(cases, len(self.classes), masks=self.reader.task == "mask")
        return ValuesCollector(cases, self.metrics, self.data_range)


def evaluate_files(
    runs: Sequence[Runner],
    dataset: Dataset,
    how: Sequence[Evaluated],
    manifest: Manifest,
    *,
    data: str,
    batch: Optional[int] = None,
) -> Evaluation:
    """Runs the vendor's file and the tuned one over a data set.

    Args:
        runs: the two files, see `Runners`.
        dataset: the data.
        how: what is measured of which output, see `ways_to_measure`.
        manifest: of the artifacts.
        data: what the data is, in words.
        batch: samples per batch; a few, or as many as the model and the data want, if None.

    Raises:
        DataError: the data cannot be read.
        NotShownError: a model cannot be run, or its output does not fit the target.
    """
    cases, places, inputs = len(dataset.cases), dataset.case_places(), count_inputs(manifest.inputs)
    collectors = [[each.collector(cases) for each in how] for _ in runs]
    done, size = 0, batch or _batch(dataset, manifest)
    for arrays in dataset.batches(size):
        outputs = [run(arrays[:inputs]) for run in runs]
        samples = len(outputs[0][0])
        mine = places[done : done + samples]
        done += samples
        for each in how:
            target = arrays[manifest.place_of(each.head)]
            weights = weights_of(manifest, each.head, arrays)
            for found, into in zip(outputs, collectors):
                _collect(each, into[each.place], found[each.place], mine, target, weights)
    before, after = ([each.result() for each in into] for into in collectors)
    outputs_found = tuple(
        Output(
            each.head.output,
            each.reader.task,
            each.metrics,
            each.classes,
            each.data_range,
            before[each.place],
            after[each.place],
        )
        for each in how
    )
    return Evaluation(data, dataset.identity, dataset.cases, outputs_found)


def ways_to_measure(
    directory: Path,
    manifest: Manifest,
    dataset: Dataset,
    outputs: Sequence[Array],
    *,
    wanted: Collection[str] = (),
    data_range: Optional[float] = None,
) -> tuple[Evaluated, ...]:
    """Returns how every output is measured: values by psnr and rmse, and what else is wanted; classes by all that suits.

    Args:
        directory: the artifacts directory.
        manifest: of the artifacts.
        dataset: the data.
        outputs: of a batch of it.
        wanted: names of metrics.
        data_range: for psnr and ssim; that of the targets if None.
    """
    found = []
    for place, (head, reader, output) in enumerate(zip(manifest.heads, readers_in(directory, manifest), outputs)):
        task, metrics = task_of(head), metrics_for(head, output.shape)
        own_range = None
        if task == "values":
            metrics = tuple(name for name in metrics if name in {"psnr", "rmse", *wanted})
            own_range = data_range or _range(dataset, head, manifest)
            if own_range is None:
                metrics = tuple(name for name in metrics if name not in RANGED)
        classes = class_names(head, output.shape, dataset.options.classes)
        found.append(Evaluated(head, place, reader, metrics, is_plain(task, output.shape), classes, own_range))
    return tuple(found)


def _batch(dataset: Dataset, manifest: Manifest) -> int:
    if manifest.fixed_batch is not None:
        return manifest.fixed_batch
    if sum(array.size for array in dataset.batch(1, 0)) > _MOST_AT_ONCE:
        return 1
    try:
        dataset.require_batch(_SAMPLES_AT_ONCE)
    except DataError:  # samples of several sizes
        return 1
    return _SAMPLES_AT_ONCE


def _collect(
    how: Evaluated,
    into: Union[ValuesCollector, ClassesCollector, RegionsCollector],
    output: Array,
    places: NDArray[np.int64],
    target: Array,
    weights: Optional[Array],
) -> None:
    expected = how.head.target_shape(output.shape)
    target = centre(target, expected)
    if target.shape != expected:
        raise NotShownError(f"The output has shape {list(output.shape)}, the target {list(target.shape)}.")
    if weights is not None:
        weights = centre(weights, (*weights.shape[:2], *expected[2:]))
    counts = how.reader.counts(target, weights)
    found = np.moveaxis(output, how.reader.class_axis, 1) if how.plain else how.reader(output)
    into.add(places, found, how.reader.target(target), counts)


def _range(dataset: Dataset, head: Head, manifest: Manifest) -> Optional[float]:
    bounds = dataset.target_range(head.target)
    if bounds is None:  # not all was looked at
        place = manifest.place_of(head)
        ends = [(float(batch[place].min()), float(batch[place].max())) for batch in dataset.batches(1)]
        bounds = min(low for low, _ in ends), max(high for _, high in ends)
    return bounds[1] - bounds[0] if bounds[1] > bounds[0] else None
