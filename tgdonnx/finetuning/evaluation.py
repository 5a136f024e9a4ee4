"""Loss and metrics of a data set, batch by batch; nothing is trained and nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.data import Dataset, Prefetched
from tgdonnx.errors import DataError
from tgdonnx.finetuning.counting import require_some_labels
from tgdonnx.finetuning.measures import (
    RANGED,
    Means,
    Measure,
    Reader,
    default_metrics,
    finite,
    measures_of,
    readers,
    task_of,
    with_measure,
)
from tgdonnx.finetuning.metrics import LOSS, MetricName
from tgdonnx.finetuning.session import Session
from tgdonnx.graphs.tensor_specs import count_inputs

Array = NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        loss: the mean over the samples.
        metrics: the same of every metric, and of several outputs of the loss of each; None in place of a number that is not
            finite.
        losses: of every batch.
    """

    loss: float
    metrics: Mapping[str, Optional[float]]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Evaluator:
    """How a data set is evaluated.

    Attributes:
        dataset: the data.
        batch: samples per batch.
        measures: what is measured besides the loss.
        data_ranges: of every output, for psnr and ssim; None where neither is taken.
        readers: of every output, what metrics compare of it.
        heads: the names of the outputs.
        shapes: of the outputs for a batch.
        trained_on: how many samples are among those that are trained on, by their inputs; None if there are too many to look.
    """

    dataset: Prefetched
    batch: int
    measures: tuple[Measure, ...]
    data_ranges: tuple[Optional[float], ...]
    readers: tuple[Reader, ...]
    heads: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    trained_on: Optional[int] = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what is measured besides the loss."""
        return tuple(each.name for each in self.measures)

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all that an evaluation gives besides the loss: metrics, and of several outputs the loss of each."""
        heads = self.heads if len(self.heads) > 1 else ()
        return (*self.metrics, *(f"{head} loss" for head in heads))

    @property
    def data_range(self) -> Optional[float]:
        """The range of the data of the first output that has one."""
        return next((value for value in self.data_ranges if value is not None), None)

    @property
    def seen_in_training(self) -> str:
        """What is said where samples are trained on; else empty."""
        if not self.trained_on:
            return ""
        return (
            f"{self.trained_on:,} of {len(self.dataset.cases):,} samples of the validation data ({self.dataset.where}) are "
            "trained on, too: their inputs are the same, so they do not tell how good the model is on new data"
        )

    def __call__(self, session: Session, check: Callable[[], None]) -> Evaluation:
        """Evaluates the data with the parameters as they are; ``check`` is called before every batch."""
        manifest, losses = session.manifest, []
        total, samples, parts = 0.0, 0, np.zeros(len(manifest.heads))
        means, places = Means(self.measures, self.data_ranges), [manifest.place_of(head) for head in manifest.heads]
        for batch in self.dataset.batches(self.batch):
            check()
            found, size = session.evaluate(batch), len(batch[places[0]])
            losses.append(found.loss)
            total, samples, parts = total + found.loss * size, samples + size, parts + np.array(found.parts) * size
            for place, (read, output) in enumerate(zip(self.readers, found.outputs)):
                target = batch[places[place]]
                counts = read.counts(target, session.weights_of(manifest.heads[place], batch))
                means.add(place, read(output), read.target(target), counts)
        metrics = means.result()
        if len(parts) > 1:
            metrics.update({f"{head.output} loss": finite(part / samples) for head, part in zip(manifest.heads, parts)})
        return Evaluation(total / samples, metrics, tuple(losses))


def evaluator(
    session: Session,
    dataset: Dataset,
    batch: int,
    metrics: Sequence[MetricName],
    data_range: Optional[float],
    *,
    also: str = LOSS,
) -> Evaluator:
    """Returns how to evaluate a data set; reads its targets for their range, if that is needed and not given.

    Args:
        session: what will be evaluated.
        dataset: data that fits it.
        batch: samples per batch.
        metrics: what to measure; psnr, or what else suits the loss, if empty.
        data_range: for psnr and ssim.
        also: the name of a measure that is taken besides these, or ``loss``, which is in any case.

    Raises:
        DataError: a metric does not suit the loss or the data, or of no output anything counts.
    """
    require_some_labels(session, dataset)
    manifest = session.manifest
    first = next(dataset.batches(manifest.fixed_batch or 1))
    ahead = Prefetched(dataset)
    shapes = [output.shape for output in session.predict(first[: count_inputs(manifest.inputs)])]
    usual = [default_metrics(task_of(head), shape) for head, shape in zip(manifest.heads, shapes)]
    measures = with_measure(manifest, measures_of(manifest, metrics, shapes, usual), also, shapes)
    ranges: list[Optional[float]] = []
    for place, head in enumerate(manifest.heads):
        ranged = any(each.head == place and each.metric in RANGED for each in measures)
        if ranged and data_range is None:
            low, high = dataset.target_range(head.target) or _target_bounds(ahead, batch, manifest.place_of(head))
            ranges.append(range_between(low, high))
        else:
            ranges.append(data_range if ranged else None)
    outputs = tuple(head.output for head in manifest.heads)
    return Evaluator(ahead, batch, measures, tuple(ranges), readers(session), outputs, tuple(shapes))


def range_between(low: float, high: float) -> float:
    """Returns the range of data.

    Raises:
        DataError: it is 0.
    """
    if high <= low:
        raise DataError(
            f"all targets are {low:g}, so psnr and ssim have no range",
            remedy="give `metric_range`, or choose `metrics=('rmse',)`",
        )
    return high - low


def _target_bounds(dataset: Prefetched, batch: int, place: int) -> tuple[float, float]:
    """Returns the smallest and the largest value of a target of a data set, by reading it."""
    low, high = np.inf, -np.inf
    for arrays in dataset.batches(batch):
        low, high = min(low, float(arrays[place].min())), max(high, float(arrays[place].max()))
    return low, high
