"""What a training run wrote down (``log.jsonl``), read back for a report.

A report must not fail on a log that was cut off or edited: lines that do not hold what they should are counted and left
out, and the page says how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.finetuning.logs import StepEntry, StopEntry, read_log
from tgdonnx.finetuning.state import RunState


@dataclass(frozen=True)
class Evaluation:
    """What was found after an epoch, or at a validation within one.

    Attributes:
        epoch: counted from 1; 0 is the start, before any training.
        step: steps done.
        loss: mean training loss since the one before; None at the start.
        validation: mean loss over the validation data; None without it.
        metrics: of the validation data.
        retain: of the vendor's own task.
    """

    epoch: int
    step: int
    loss: Optional[float]
    validation: Optional[float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    retain: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """A run, from its log.

    Attributes:
        steps: int64 of shape (steps,), the number of every step.
        losses: float64 of shape (steps,), the loss of every step, before its update.
        learning_rates: float64 of shape (steps,).
        seconds: float64 of shape (steps,), how long every step took.
        wait: the same, of which it waited for data.
        parts: of several outputs that train, by name the loss of each step; float64 of shape (steps,).
        evaluations: in order.
        stop: why the run ended, or None.
        unreadable: lines that were left out.
    """

    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    learning_rates: NDArray[np.float64]
    seconds: NDArray[np.float64]
    wait: NDArray[np.float64]
    parts: Mapping[str, NDArray[np.float64]]
    evaluations: tuple[Evaluation, ...]
    stop: Optional[str]
    unreadable: int

    def metric_names(self) -> tuple[str, ...]:
        """Returns the metrics of the validation data, in the order in which they occur."""
        return tuple(dict.fromkeys(name for e in self.evaluations for name in e.metrics))

    def retain_names(self) -> tuple[str, ...]:
        """Returns the metrics of the vendor's own task, in the order in which they occur."""
        return tuple(dict.fromkeys(name for e in self.evaluations for name in e.retain))


def read_history(directory: Path) -> History:
    """Reads the log of a run; without one, nothing was done.

    Raises:
        ArtifactsError: there is something else in its place, or it cannot be read.
    """
    steps: list[StepEntry] = []
    evaluations: list[Evaluation] = []
    stop, unreadable = None, 0
    for line in read_log(directory):
        entry = line.entry
        if entry is None:
            unreadable += 1
        elif isinstance(entry, StepEntry):
            steps.append(entry)
        elif isinstance(entry, StopEntry):
            stop = entry.reason
        else:
            metrics, retain = _known(entry.metrics), _known(entry.retain)
            evaluations.append(Evaluation(entry.epoch, entry.step, entry.loss, entry.validation, metrics, retain))
    table = np.array([(s.loss, s.learning_rate, s.seconds, s.wait) for s in steps], np.float64).reshape(-1, 4)
    losses, rates, seconds, wait = table.T
    numbers = np.array([s.step for s in steps], np.int64)
    # Of runs of earlier versions only the later steps may have them; then there is no whole curve.
    names = [name for name in (steps[0].losses if steps else {}) if all(name in step.losses for step in steps)]
    parts = {name: np.array([step.losses[name] for step in steps], np.float64) for name in names}
    return History(numbers, losses, rates, seconds, wait, parts, tuple(evaluations), stop, unreadable)


def step_of(run: Optional[str], checkpoint: Path) -> Optional[int]:
    """Returns after which step a checkpoint was written; None if no run of ours wrote it.

    Args:
        run: what it says of the run, as JSON.
        checkpoint: the checkpoint, for messages.

    Raises:
        ArtifactsError: that is no state of a run.
    """
    return None if run is None else RunState.from_json(run, str(checkpoint)).step


def _known(values: Mapping[str, Optional[float]]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
