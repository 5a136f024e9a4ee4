"""What is measured of the outputs that train: which metrics, of which output, and what they compare.

What a metric compares depends on the loss. Class indices: the class of the largest output, along the axis of classes, with the
target's; labels that the loss ignores do not count. Masks: whether the output is above 0.5, or above 0 where it is the logit of
a probability, with whether the target is above 0.5. Other losses: the numbers themselves. Where the loss takes weights from the
data, elements count by them.

A metric of the only output is called by its name alone; of several outputs, as in ``scores dice``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest
from tgdonnx.artifacts.losses import Targets
from tgdonnx.artifacts.manifest import Head
from tgdonnx.errors import DataError
from tgdonnx.finetuning.class_counts import ClassCounts, mean_of_known
from tgdonnx.finetuning.metrics import (
    LOSS,
    POOLED,
    MetricName,
    Task,
    is_plain,
    measure,
    metric_of,
    require_metrics,
    suiting,
    takes_ssim,
)
from tgdonnx.finetuning.session import Session

Array = NDArray[Any]
_TASKS: dict[Targets, Task] = {"values": "values", "probabilities": "mask", "classes": "classes"}
RANGED: frozenset[MetricName] = frozenset({"psnr", "ssim"})


@dataclass(frozen=True)
class Measure:
    """A metric of an output.

    Attributes:
        head: the place of the output among those that train.
        metric: which.
        name: what it is called.
    """

    head: int
    metric: MetricName
    name: str


def task_of(head: Head) -> Task:
    """Returns what an output is, by its loss."""
    return _TASKS[head.formula.targets]


def default_metrics(task: Task, shape: tuple[int, ...]) -> tuple[MetricName, ...]:
    """Returns what is measured of an output unless something is asked for."""
    if task == "values":
        return ("psnr",)
    if task == "mask":
        return ("dice", "accuracy")
    return ("accuracy", "f1") if is_plain(task, shape) else ("accuracy", "dice")


def measures_of(
    manifest: Manifest,
    wanted: Sequence[MetricName],
    shapes: Sequence[tuple[int, ...]],
    defaults: Sequence[Sequence[MetricName]],
) -> tuple[Measure, ...]:
    """Returns what is measured; of several outputs each is measured by what suits it of what is asked for.

    Args:
        manifest: of the artifacts.
        wanted: what is asked for, perhaps nothing.
        shapes: of the outputs.
        defaults: for every output what is measured if nothing is asked for.

    Raises:
        DataError: what is asked for suits no output.
    """
    heads = manifest.heads
    found = []
    for place, (head, shape, usual) in enumerate(zip(heads, shapes, defaults)):
        task = task_of(head)
        names = tuple(wanted) or tuple(usual)
        if len(heads) > 1:
            names = tuple(name for name in names if name in suiting(task, shape))
        _require(head, names, shape)
        found += [Measure(place, name, name if len(heads) == 1 else f"{head.output} {name}") for name in names]
    if wanted and len(heads) > 1:
        idle = next((name for name in wanted if all(each.metric != name for each in found)), None)
        if idle is not None:
            suits = dict.fromkeys(name for head, shape in zip(heads, shapes) for name in suiting(task_of(head), shape))
            raise DataError(
                f"the metric {idle} suits none of the losses; expected {', '.join(suits)}: choose another of `metrics`"
            )
    order = {name: place for place, name in enumerate(wanted)}
    return tuple(sorted(found, key=lambda each: order.get(each.metric, 0)) if wanted else found)


def with_measure(
    manifest: Manifest, measures: tuple[Measure, ...], name: str, shapes: Sequence[tuple[int, ...]]
) -> tuple[Measure, ...]:
    """Returns measures with one more, if it is a metric and not among them: ``dice``, or ``scores dice`` of several outputs.

    Args:
        manifest: of the artifacts.
        measures: what is measured.
        name: of the measure.
        shapes: of the outputs.

    Raises:
        DataError: the metric suits no output of that name.
    """
    output, _, metric = name.rpartition(" ")
    if metric == LOSS or any(name in (each.name, each.metric) for each in measures):
        return measures
    heads = [place for place, head in enumerate(manifest.heads) if output in ("", head.output)]
    if not heads:
        raise DataError(
            f"{name!r} names the output {output!r}; expected {', '.join(head.output for head in manifest.heads)}"
        )
    wanted = metric_of(name)
    places = [place for place in heads if wanted in suiting(task_of(manifest.heads[place]), shapes[place])]
    if not places:
        require_metrics((wanted,), task_of(manifest.heads[heads[0]]), shapes[heads[0]])
    several = len(manifest.heads) > 1
    found = []
    for place in places:
        head = manifest.heads[place]
        _require(head, (wanted,), shapes[place])
        found.append(Measure(place, wanted, f"{head.output} {wanted}" if several else wanted))
    return (*measures, *found)


def _require(head: Head, names: tuple[MetricName, ...], shape: tuple[int, ...]) -> None:
    """Checks that metrics can be taken of an output."""
    require_metrics(names, task_of(head), shape)
    if "ssim" in names and head.formula.weights:
        raise DataError("the metric ssim has no weights, and the loss has", remedy="choose another of `metrics`")


def metrics_for(head: Head, shape: tuple[int, ...]) -> tuple[MetricName, ...]:
    """Returns the metrics that can be taken of an output of this shape."""
    without = not takes_ssim(shape) or bool(head.formula.weights)
    return tuple(name for name in suiting(task_of(head), shape) if name != "ssim" or not without)


def class_names(head: Head, shape: tuple[int, ...], known: Sequence[str]) -> tuple[str, ...]:
    """Returns how the classes of an output are called, of masks those of channels; none of values.

    Args:
        head: the output.
        shape: of it.
        known: names of the data, which count if there are as many.
    """
    task = task_of(head)
    if task == "values":
        return ()
    count = shape[1 if head.class_axis is None else head.class_axis] if len(shape) > 1 else 1
    if len(known) == count:
        return tuple(known)
    if task == "mask":
        return ("object",) if count == 1 else tuple(f"channel {number + 1}" for number in range(count))
    return tuple(str(number) for number in range(count))


def measurable(
    manifest: Manifest, shapes: Sequence[tuple[int, ...]], known: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Returns for the names of all measures that can be taken of outputs of these shapes the names of the classes."""
    several = len(manifest.heads) > 1
    return {
        f"{head.output} {metric}" if several else metric: class_names(head, shape, known)
        for head, shape in zip(manifest.heads, shapes)
        for metric in metrics_for(head, shape)
    }


@dataclass(frozen=True)
class Reader:
    """Turns an output and its target into what metrics compare.

    Attributes:
        task: what the output is.
        threshold: above which an output of a mask means True.
        class_axis: the axis of the output that counts classes.
        ignore: the label that does not count.
    """

    task: Task
    threshold: float
    class_axis: int = 1
    ignore: Optional[int] = None

    def __call__(self, output: Array) -> Array:
        """Turns an output of the model into what its target is, or means."""
        if self.task == "classes":
            classes: Array = np.argmax(output, axis=self.class_axis)
            return classes
        return output > self.threshold if self.task == "mask" else output

    def target(self, target: Array) -> Array:
        """Turns a target into what it means."""
        return target > 0.5 if self.task == "mask" else target

    def counts(self, target: Array, weights: Optional[Array]) -> Optional[Array]:
        """Returns what every element of a target counts; None if all count alike.

        Args:
            target: as a step is fed it.
            weights: of the data, if the loss takes some.
        """
        if self.ignore is not None:
            counted: Array = target != self.ignore
            return counted
        return None if weights is None else np.broadcast_to(weights, target.shape)


def readers(session: Session) -> tuple[Reader, ...]:
    """Returns how to read the outputs that train."""
    return readers_in(session.directory, session.manifest)


def readers_in(directory: Path, manifest: Manifest) -> tuple[Reader, ...]:
    """Returns how to read the outputs that train with the artifacts in a directory."""
    found = []
    for place, head in enumerate(manifest.heads):
        task = task_of(head)
        threshold = 0.5 if task == "mask" and _ends_in_sigmoid(directory / manifest.runtime.eval_model, place) else 0.0
        axis = 1 if head.class_axis is None else head.class_axis
        found.append(Reader(task, threshold, axis, head.formula.ignore))
    return tuple(found)


def _ends_in_sigmoid(eval_model: Path, place: int) -> bool:
    """Whether an output is a probability already; the loss takes what goes into the Sigmoid then."""
    graph = onnx.load(eval_model, load_external_data=False).graph
    producers = {output: node for node in graph.node for output in node.output}
    node = producers.get(graph.output[1 + place].name)
    while node is not None and node.op_type == "Identity":
        node = producers.get(node.input[0])
    return node is not None and node.op_type == "Sigmoid"


class Means:
    """Measures of a data set: means over samples, without those of which nothing counts, and what is of all samples at once."""

    def __init__(self, measures: Sequence[Measure], ranges: Sequence[Optional[float]]) -> None:
        """Begins.

        Args:
            measures: what is measured.
            ranges: of every output the range of the data, for psnr and ssim.
        """
        self._measures, self._ranges = measures, ranges
        self._sums, self._counts = [0.0] * len(measures), [0] * len(measures)
        self._pooled = {each.head: ClassCounts() for each in measures if each.metric in POOLED}

    def add(self, place: int, found: Array, wanted: Array, counts: Optional[Array] = None) -> None:
        """Measures an output of a batch; see `tgdonnx.finetuning.metrics.measure`."""
        if place in self._pooled:
            self._pooled[place].add(found, wanted, counts)
        for number, each in enumerate(self._measures):
            if each.head == place and each.metric not in POOLED:
                values = measure(each.metric, found, wanted, self._ranges[place], counts)
                told = values[~np.isnan(values)]
                self._sums[number] += float(told.sum())
                self._counts[number] += len(told)

    def result(self) -> dict[str, Optional[float]]:
        """Returns the means by name; None in place of one that is not finite, or of nothing."""
        means = [
            mean_of_known(self._pooled[each.head].f1()) if each.metric in POOLED else total / count if count else np.nan
            for each, total, count in zip(self._measures, self._sums, self._counts)
        ]
        return {each.name: finite(mean) for each, mean in zip(self._measures, means)}


def finite(value: float) -> Optional[float]:
    """Returns a number that JSON can hold."""
    return float(value) if np.isfinite(value) else None
