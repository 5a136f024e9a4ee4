"""Loss and metrics of a data set, batch by batch; nothing is trained and nothing is kept.

What a metric compares depends on the loss. Cross-entropy: the class of the largest output, along the axis of classes, with the
target's. Binary cross-entropy: whether the output is above 0.5, or above 0 where it is the logit of a probability, with whether
the target is above 0.5. Other losses: the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest, parse_loss
from tgdonnx.artifacts.losses.function import Targets
from tgdonnx.data import Dataset, Prefetched
from tgdonnx.errors import DataError
from tgdonnx.finetuning.metrics import OF_TASK, MetricName, Task, measure, require_metrics
from tgdonnx.finetuning.session import Session

Array = NDArray[Any]
_TASKS: dict[Targets, Task] = {"values": "values", "probabilities": "mask", "classes": "classes"}
_NEED_RANGE: frozenset[MetricName] = frozenset({"psnr", "ssim"})


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        loss: the mean over the samples.
        metrics: the same of every metric; None in place of a number that is not finite.
        losses: of every batch.
    """

    loss: float
    metrics: Mapping[str, Optional[float]]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Evaluator:
    """How a data set is evaluated.

    Attributes:
        dataset: the data; its last array is the target.
        batch: samples per batch.
        metrics: what is measured besides the loss.
        data_range: for psnr and ssim.
        classify: turns outputs into what metrics compare.
    """

    dataset: Prefetched
    batch: int
    metrics: tuple[MetricName, ...]
    data_range: Optional[float]
    classify: Classifier

    def __call__(self, session: Session, check: Callable[[], None]) -> Evaluation:
        """Evaluates the data with the parameters as they are; ``check`` is called before every batch."""
        total, samples, sums, losses = 0.0, 0, dict.fromkeys(self.metrics, 0.0), []
        for batch in self.dataset.batches(self.batch):
            check()
            loss, output = session.evaluate(batch)
            losses.append(loss)
            total, samples = total + loss * len(batch[-1]), samples + len(batch[-1])
            if self.metrics:
                found, wanted = self.classify(output), self.classify.target(batch[-1])
                for name in self.metrics:
                    sums[name] += float(measure(name, found, wanted, self.data_range).sum())
        means = {str(name): finite(value / samples) for name, value in sums.items()}
        return Evaluation(total / samples, means, tuple(losses))


def evaluator(
    session: Session, dataset: Dataset, batch: int, metrics: Sequence[MetricName], data_range: Optional[float]
) -> Evaluator:
    """Returns how to evaluate a data set; reads its targets for their range, if that is needed and not given.

    Args:
        session: what will be evaluated.
        dataset: data that fits it.
        batch: samples per batch.
        metrics: what to measure; psnr, or what else suits the loss, if empty.
        data_range: for psnr and ssim.

    Raises:
        DataError: a metric does not suit the loss or the data.
    """
    task = task_of(session.manifest)
    names = tuple(metrics) or default_metrics(task)
    first = next(dataset.batches(session.manifest.fixed_batch or 1))
    ahead = Prefetched(dataset)
    require_metrics(names, task, session.predict(first[:-1]).shape)
    if data_range is None and _NEED_RANGE & set(names):
        low, high = dataset.target_range or _target_bounds(ahead, batch)
        data_range = range_between(low, high)
    ranged = data_range if _NEED_RANGE & set(names) else None
    return Evaluator(ahead, batch, names, ranged, classifier(session))


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


def task_of(manifest: Manifest) -> Task:
    """Returns what outputs are, by the loss."""
    return _TASKS[parse_loss(manifest.options.loss).targets]


def default_metrics(task: Task) -> tuple[MetricName, ...]:
    """Returns what is measured unless something is asked for."""
    return ("psnr",) if task == "values" else OF_TASK[task]


@dataclass(frozen=True)
class Classifier:
    """Turns outputs into what metrics compare.

    Attributes:
        task: what outputs are.
        threshold: above which an output of a mask means True.
        class_axis: the axis of outputs that counts classes.
    """

    task: Task
    threshold: float
    class_axis: int = 1

    def __call__(self, output: Array) -> Array:
        """Turns an output of the model into what its target is, or means."""
        if self.task == "classes":
            classes: Array = np.argmax(output, axis=self.class_axis)
            return classes
        return output > self.threshold if self.task == "mask" else output

    def target(self, target: Array) -> Array:
        """Turns a target into what it means."""
        return target > 0.5 if self.task == "mask" else target


def classifier(session: Session) -> Classifier:
    """Returns how to read the outputs of a model."""
    task = task_of(session.manifest)
    threshold = 0.5 if task == "mask" and _ends_in_sigmoid(session) else 0.0
    return Classifier(task, threshold, session.manifest.class_axis)


def _ends_in_sigmoid(session: Session) -> bool:
    """Whether the output is a probability already; the loss takes what goes into the Sigmoid then."""
    graph = onnx.load(session.directory / session.manifest.runtime.eval_model, load_external_data=False).graph
    producers = {output: node for node in graph.node for output in node.output}
    node = producers.get(graph.output[1].name)
    while node is not None and node.op_type == "Identity":
        node = producers.get(node.input[0])
    return node is not None and node.op_type == "Sigmoid"


def finite(value: float) -> Optional[float]:
    """Returns a number that JSON can hold."""
    return value if np.isfinite(value) else None


def _target_bounds(dataset: Prefetched, batch: int) -> tuple[float, float]:
    """Returns the smallest and the largest value of the targets of a data set, by reading it."""
    low, high = np.inf, -np.inf
    for *_, target in dataset.batches(batch):
        low, high = min(low, float(target.min())), max(high, float(target.max()))
    return low, high
