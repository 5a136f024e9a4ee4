"""Does the model still do the vendor's own task?

With targets in the data, the metrics of that task. Without, how well outputs agree with the vendor's, which the vendor's model
is run for at every evaluation. The first of the metrics is guarded: a run can end when it has become worse than at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from numpy.typing import NDArray

from tgdonnx.artifacts import vendor_outputs
from tgdonnx.data import Dataset, DataSource, Prefetched, open_like
from tgdonnx.errors import DataError, MissingArrayError
from tgdonnx.finetuning.evaluation import (
    Evaluator,
    classifier,
    default_metrics,
    evaluator,
    finite,
    range_between,
    task_of,
)
from tgdonnx.finetuning.metrics import MetricName, Task, measure, require_metrics, takes_ssim
from tgdonnx.finetuning.session import Session

Array = NDArray[Any]


@dataclass(frozen=True)
class Retention:
    """How the vendor's own task is evaluated.

    Attributes:
        dataset: its data.
        guarded: the metric that a limit is about.
        evaluate: gives the metrics by name; takes a session, and what to call before every batch.
        labelled: whether the data has targets; if not, the metrics are those of agreement with the vendor's outputs.
        data_range: that psnr and ssim are taken with, if they are.
    """

    dataset: Prefetched
    guarded: MetricName
    evaluate: Callable[[Session, Callable[[], None]], Mapping[str, Optional[float]]]
    labelled: bool
    data_range: Optional[float]


def open_retention(
    session: Session,
    training: Dataset,
    source: DataSource,
    *,
    batch: int,
    metrics: Sequence[MetricName],
    data_range: Optional[float],
) -> Retention:
    """Opens the data of the vendor's own task.

    Args:
        session: what will be evaluated.
        training: what is trained on; the other data is read, cut and scaled as it is.
        source: data with or without ``target``.
        batch: samples per batch.
        metrics: what to measure, the guarded one first; what suits the loss, if empty.
        data_range: for psnr and ssim; that of the targets, or of the vendor's outputs, if None.

    Raises:
        DataError: data or metrics do not fit.
        ArtifactsError: the directory is not usable.
    """
    inputs = session.manifest.inputs
    try:
        dataset = open_like(training, source)
    except MissingArrayError as error:
        if error.array != inputs[-1].name:
            raise
        dataset = open_like(training, source, inputs[:-1])
        return _agreement(session, Prefetched(dataset), batch, metrics, data_range)
    session.require_fit(dataset)
    measured = evaluator(session, dataset, batch, metrics, data_range)
    return Retention(measured.dataset, measured.metrics[0], _metrics_of(measured), True, measured.data_range)


def _metrics_of(measured: Evaluator) -> Callable[[Session, Callable[[], None]], Mapping[str, Optional[float]]]:
    return lambda session, check: measured(session, check).metrics


def _agreement(
    session: Session, dataset: Prefetched, batch: int, metrics: Sequence[MetricName], data_range: Optional[float]
) -> Retention:
    task = task_of(session.manifest)
    vendor = vendor_outputs(session.artifacts, session.device)
    outputs = session.predict(next(dataset.batches(session.manifest.fixed_batch or 1)))
    names = tuple(metrics) or _agreement_metrics(task, outputs.shape)
    require_metrics(names, task, outputs.shape)
    if names[0] == "psnr":
        raise DataError(
            "the psnr of the vendor's outputs against themselves is infinite, so no loss of it can be measured",
            remedy="put ssim or rmse before it (`metrics`), or add targets to the data to retain",
        )
    if data_range is None and {"psnr", "ssim"} & set(names):
        bounds = [(float(out.min()), float(out.max())) for out in map(vendor, dataset.batches(batch))]
        data_range = range_between(min(low for low, _ in bounds), max(high for _, high in bounds))
    classify = classifier(session)

    def evaluate(session: Session, check: Callable[[], None]) -> Mapping[str, Optional[float]]:
        sums, samples = dict.fromkeys(names, 0.0), 0
        for inputs in dataset.batches(batch):
            check()
            theirs = vendor(inputs)
            wanted = classify(theirs)
            # The vendor's output takes the place of a target, which has to be fed; the loss is not looked at.
            _, output = session.evaluate([*inputs, wanted if task == "classes" else theirs])
            found = classify(output)
            samples += len(found)
            for name in names:
                sums[name] += float(measure(name, found, wanted, data_range).sum())
        return {name: finite(value / samples) for name, value in sums.items()}

    return Retention(dataset, names[0], evaluate, False, data_range)


def _agreement_metrics(task: Task, shape: tuple[int, ...]) -> tuple[MetricName, ...]:
    """Returns metrics that are finite where the outputs are equal."""
    if task != "values":
        return default_metrics(task)
    return ("ssim", "rmse") if takes_ssim(shape) else ("rmse",)
