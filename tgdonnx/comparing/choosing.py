"""Which selection to take: the lowest loss on the new task among what respects the user's limit on the old one.

The point of a curve that counts is the best one within the limit, not the last: runs that go on for too long forget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from tgdonnx.finetuning import BlendCurve, Epoch
from tgdonnx.finetuning.metrics import worsening


@dataclass(frozen=True)
class Point:
    """Where a run stood at a validation.

    Attributes:
        epoch: counted from 1; 0 is the vendor's model.
        step: steps done.
        loss: of the validation data: the new task.
        new: the first metric of the validation data; None where it is infinite.
        old: the first metric of the vendor's own task; None where it is infinite, or is not measured.
        fall: by how much ``old`` is worse than at the start, negative if better; None where that is not known.
    """

    epoch: int
    step: int
    loss: float
    new: Optional[float]
    old: Optional[float]
    fall: Optional[float]


@dataclass(frozen=True)
class Entry:
    """What came of one selection.

    Attributes:
        name: of the selection.
        selection: the strategy, its parameters and the mode; what regularised, too.
        rho: the fraction of the elements of the retrainable tensors that train.
        changed: how many numbers of the tuned file differ from the vendor's.
        steps: steps done.
        seconds: time spent training and validating.
        curve: every validation, from the start on.
        best: the one of the lowest loss within the limit; the tuned model is from there.
        last: the latest.
        directory: where its ``artifacts`` and its ``tuned.onnx`` are; empty for the vendor's model.
        problem: why it did not get to the end; empty if it did.
        blend: what lies between its start and its best point; None for the vendor's model.
        seed: of its run.
    """

    name: str
    selection: Mapping[str, Any]
    rho: float
    changed: int
    steps: int
    seconds: float
    curve: tuple[Point, ...] = field(repr=False)
    best: Point
    last: Point
    directory: str = ""
    problem: str = ""
    blend: Optional[BlendCurve] = field(default=None, repr=False)
    seed: int = 0


def curve_of(epochs: Iterable[Epoch], old: Optional[str]) -> tuple[Point, ...]:
    """Returns the validations of a run, up to the first whose loss is not known.

    Args:
        epochs: from the start on.
        old: the metric of the vendor's own task, if that is measured.
    """
    points: list[Point] = []
    start: Optional[float] = None
    for epoch in epochs:
        if epoch.validation is None:
            continue
        now = epoch.retain.get(old) if old is not None else None
        start = now if not points else start
        fall = None if old is None or start is None or now is None else worsening(old, start, now)
        new = next(iter(epoch.metrics.values()), None)
        points.append(Point(epoch.epoch, epoch.step, epoch.validation, new, now, fall))
    return tuple(points)


def best_point(curve: Sequence[Point], limit: Optional[float]) -> Point:
    """Returns the point of the lowest loss, the earliest of several, whose fall is within the limit.

    Args:
        curve: from the start on, which is always within it.
        limit: the largest fall; None for any.
    """
    start, *rest = curve
    allowed = [point for point in rest if limit is None or point.fall is None or point.fall <= limit]
    return min([start, *allowed], key=lambda point: point.loss)


def choose(entries: Sequence[Entry]) -> Entry:
    """Returns the entry whose best point has the lowest loss; of equal ones that which changes the fewest numbers."""
    return min(entries, key=lambda entry: (entry.best.loss, entry.changed))


def choose_blended(entries: Sequence[Entry]) -> Optional[tuple[Entry, float, float]]:
    """Returns the entry whose chosen blend has the lowest loss, that blend and the loss; None where none was blended."""
    found = [(entry, entry.blend.chosen, entry.blend.at_chosen.loss) for entry in entries if entry.blend is not None]
    return min(found, key=lambda each: each[2], default=None)
