"""Does the model still do the vendor's own task?

With targets in the data, the metrics of that task. Without, how well outputs agree with the vendor's, which the vendor's model
is run for at every evaluation. The first of the metrics is guarded: a run can end when it has become worse than at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import vendor_outputs
from tgdonnx.data import Dataset, DataSource, Prefetched, held, open_like
from tgdonnx.errors import DataError, MissingArrayError
from tgdonnx.finetuning.evaluation import Evaluator, evaluator, range_between
from tgdonnx.finetuning.measures import RANGED, Means, default_metrics, measures_of, readers, task_of
from tgdonnx.finetuning.metrics import MetricName, Task, takes_ssim
from tgdonnx.finetuning.session import Session
from tgdonnx.graphs.tensor_specs import count_inputs

Array = NDArray[Any]


@dataclass(frozen=True)
class Retention:
    """How the vendor's own task is evaluated.

    Attributes:
        dataset: its data.
        guarded: the name of the metric that a limit is about.
        evaluate: gives the metrics by name; takes a session, and what to call before every batch.
        labelled: whether the data has targets; if not, the metrics are those of agreement with the vendor's outputs.
        data_range: that psnr and ssim are taken with, if they are.
    """

    dataset: Prefetched
    guarded: str
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
        source: data with or without targets.
        batch: samples per batch.
        metrics: what to measure, the guarded one first; what suits the loss, if empty.
        data_range: for psnr and ssim; that of the targets, or of the vendor's outputs, if None.

    Raises:
        DataError: data or metrics do not fit.
        ArtifactsError: the directory is not usable.
    """
    inputs, source = session.manifest.inputs, held(source)  # it may be opened twice
    try:
        dataset = open_like(training, source)
    except MissingArrayError as error:
        if error.array not in (spec.name for spec in inputs if spec.role == "target"):
            raise
        others = [name for spec in inputs if spec.role != "input" for name in spec.array_names]
        dataset = open_like(training, source, inputs[: count_inputs(inputs)], ignored=others)
        return _agreement(session, Prefetched(dataset), batch, metrics, data_range)
    session.require_fit(dataset)
    measured = evaluator(session, dataset, batch, metrics, data_range)
    return Retention(measured.dataset, measured.metrics[0], _metrics_of(measured), True, measured.data_range)


def _metrics_of(measured: Evaluator) -> Callable[[Session, Callable[[], None]], Mapping[str, Optional[float]]]:
    return lambda session, check: measured(session, check).metrics


def _agreement(
    session: Session, dataset: Prefetched, batch: int, metrics: Sequence[MetricName], data_range: Optional[float]
) -> Retention:
    manifest = session.manifest
    vendor = vendor_outputs(session.artifacts, session.device)
    shapes = [output.shape for output in session.predict(next(dataset.batches(manifest.fixed_batch or 1)))]
    usual = [_agreement_metrics(task_of(head), shape) for head, shape in zip(manifest.heads, shapes)]
    measures = measures_of(manifest, metrics, shapes, usual)
    if measures[0].metric == "psnr":
        raise DataError(
            "the psnr of the vendor's outputs against themselves is infinite, so no loss of it can be measured",
            remedy="put ssim or rmse before it (`metrics`), or add targets to the data to retain",
        )
    ranges: list[Optional[float]] = [data_range] * len(shapes)
    if data_range is None:
        for place in {each.head for each in measures if each.metric in RANGED}:
            bounds = [(float(out[place].min()), float(out[place].max())) for out in map(vendor, dataset.batches(batch))]
            ranges[place] = range_between(min(low for low, _ in bounds), max(high for _, high in bounds))
    reading = readers(session)

    def evaluate(session: Session, check: Callable[[], None]) -> Mapping[str, Optional[float]]:
        means = Means(measures, ranges)
        for inputs in dataset.batches(batch):
            check()
            theirs = vendor(inputs)
            wanted = [read(output) for read, output in zip(reading, theirs)]
            # The vendor's output takes the place of a target, which has to be fed, as weights have; the loss is not looked at.
            fed = [w if read.task == "classes" else own for read, w, own in zip(reading, wanted, theirs)]
            weights = [np.zeros_like(own) for head, own in zip(manifest.heads, theirs) for _ in head.formula.weights]
            for place, output in enumerate(session.evaluate([*inputs, *fed, *weights]).outputs):
                means.add(place, reading[place](output), wanted[place])
        return means.result()

    return Retention(dataset, measures[0].name, evaluate, False, next((r for r in ranges if r is not None), None))


def _agreement_metrics(task: Task, shape: tuple[int, ...]) -> tuple[MetricName, ...]:
    """Returns metrics that are finite where the outputs are equal."""
    if task != "values":
        return default_metrics(task, shape)
    return ("ssim", "rmse") if takes_ssim(shape) else ("rmse",)
