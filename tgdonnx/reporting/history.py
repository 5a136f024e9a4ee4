"""What a training run wrote down (``log.jsonl``, ``run.json``), read back for a report.

A report must not fail on a log that was cut off or edited: lines that do not hold what they should are counted and left
out, and the page says how many.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts.checkpoints import load_checkpoint
from tgdonnx.artifacts.manifest import LOG, RUN

_RUN_STATE = "tgdonnx.run"  # the property of a checkpoint that `tgdonnx.finetuning.session` writes
_EVALUATIONS = ("epoch", "validation")


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
        learning_rates: float64 of shape (steps,); NaN where none is noted.
        seconds: float64 of shape (steps,), how long every step took; NaN where that is not noted.
        wait: the same, of which it waited for data.
        evaluations: in order.
        stop: why the run ended, or None.
        unreadable: lines that were left out.
    """

    steps: NDArray[np.int64]
    losses: NDArray[np.float64]
    learning_rates: NDArray[np.float64]
    seconds: NDArray[np.float64]
    wait: NDArray[np.float64]
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
    """Reads the log of a run; without one, nothing was done."""
    steps: list[tuple[int, float, float, float, float]] = []
    evaluations: list[Evaluation] = []
    stop, unreadable = None, 0
    for entry in _entries(directory / LOG):
        kind = entry.get("event", entry.get("kind"))
        try:
            if kind == "step":
                steps.append((_count(entry["step"]), _number(entry["loss"]), *_times(entry)))
            elif kind in _EVALUATIONS:
                evaluations.append(_evaluation(entry))
            elif kind == "stop":
                stop = str(entry["reason"])
            else:
                unreadable += 1
        except (KeyError, TypeError, ValueError, OverflowError):
            unreadable += 1
    table = np.array(steps, np.float64).reshape(-1, 5)
    losses, rates, seconds, wait = table[:, 1:].T
    return History(table[:, 0].astype(np.int64), losses, rates, seconds, wait, tuple(evaluations), stop, unreadable)


def read_run(directory: Path) -> Mapping[str, Any]:
    """Returns the record of the run; empty if there is none that can be read."""
    try:
        content = json.loads((directory / RUN).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def step_of_checkpoint(directory: Path, checkpoint: str) -> Optional[int]:
    """Returns after which step a checkpoint was written; None if no run of ours wrote it.

    Raises:
        RuntimeMissingError: onnxruntime-training, which reads checkpoints, is not installed.
    """
    properties = load_checkpoint(directory, checkpoint).properties
    try:
        return _count(json.loads(properties[_RUN_STATE])["step"]) if _RUN_STATE in properties else None
    except (RuntimeError, ValueError, KeyError, TypeError):
        return None


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                entry = None
            yield entry if isinstance(entry, dict) else {}


def _evaluation(entry: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        _count(entry["epoch"]),
        _count(entry["step"]),
        _optional(entry.get("loss")),
        _optional(entry.get("validation")),
        _numbers(entry.get("metrics")),
        _numbers(entry.get("retain")),
    )


def _numbers(values: Any) -> dict[str, float]:
    found = values.items() if isinstance(values, dict) else ()
    return {str(name): _number(value) for name, value in found if value is not None}


def _times(entry: Mapping[str, Any]) -> tuple[float, float, float]:
    rate, seconds, wait = (_optional(entry.get(name)) for name in ("learning_rate", "seconds", "wait"))
    return tuple(math.nan if value is None else value for value in (rate, seconds, wait))  # type: ignore[return-value]


def _optional(value: Any) -> Optional[float]:
    return None if value is None else _number(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no count")
    return value
