"""How to train: everything that a user chooses about a run, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Optional

from tgdonnx.errors import DataError
from tgdonnx.finetuning.metrics import LOSS, METRICS, MetricName
from tgdonnx.finetuning.schedules import SCHEDULES, ScheduleName
from tgdonnx.runtime import CPU_NAME, parse_device

DEFAULT_EPOCHS = 10
LEARNING_RATE, SIDE_PATH_LEARNING_RATE = 1e-4, 1e-3
DEFAULT_AGREE_SHARE = 0.25

# What a run does when the vendor's own task is worse by more than the limit; either way the best epoch within it is kept.
OnRetainLimit = Literal["stop", "go-on"]


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    A *step* is one update of the weights. A run ends after ``epochs`` or after ``steps``, of which one may be given;
    without either it ends after ten epochs, or, if ``max_time`` is given, when that is over.

    Attributes:
        epochs: passes over the data.
        batch: samples per batch.
        learning_rate: the largest learning rate; 1e-4 if None, and 1e-3 where side paths train.
        schedule: how it goes on from there; see `tgdonnx.finetuning.schedules`.
        warmup: steps over which it first rises.
        seed: of the order of the samples.
        steps: steps of the run.
        max_time: seconds after which the run ends, whatever is left to do; what it did before it was resumed counts.
        accumulate: batches per step. The gradient is the mean of theirs; the last step of an epoch takes those left.
        patience: the run ends after so many validations in a row that are no better than the best before them.
        validate_every: steps between validations; None for one after every epoch.
        checkpoint_every: seconds between checkpoints; there is also one after every epoch and validation.
        metrics: what is measured besides the loss; by default what suits it, see `tgdonnx.finetuning.metrics`.
        best: the measure of the validation data by which the epoch to keep is chosen, and patience counts: ``loss``, or a
            metric, which is measured then; of several outputs as in ``scores dice``.
        metric_range: the largest difference that values can have, for PSNR and SSIM; that of the targets, if None.
        retain_limit: the run ends when the first metric of the vendor's own task has become worse by more than this.
        on_retain_limit: ``go-on``: the run does not end then, but the epoch that is kept is still one within the limit.
        agree_share: the part of every batch that is images to agree with the vendor on, where a run has such images; a
            quarter if None.
        device: where the run computes: ``cpu``, ``cuda``, or ``cuda:1`` for the second. A run may go on on another one.
    """

    epochs: Optional[int] = None
    batch: int = 8
    learning_rate: Optional[float] = None
    schedule: ScheduleName = "constant"
    warmup: int = 0
    seed: int = 0
    steps: Optional[int] = None
    max_time: Optional[float] = None
    accumulate: int = 1
    patience: Optional[int] = None
    validate_every: Optional[int] = None
    checkpoint_every: float = 300.0
    metrics: tuple[MetricName, ...] = ()
    best: str = LOSS
    metric_range: Optional[float] = None
    retain_limit: Optional[float] = None
    on_retain_limit: OnRetainLimit = "stop"
    agree_share: Optional[float] = None
    device: str = CPU_NAME

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch": 1, "warmup": 0, "seed": 0, "steps": 1, "accumulate": 1, "patience": 1}
        for name, limit in {**least, "validate_every": 1}.items():
            value = getattr(self, name)
            if value is not None and value < limit:
                raise DataError(f"expected {name} >= {limit}, got {value}")
        called = {"learning_rate": "a learning rate", "max_time": "max_time", "metric_range": "metric_range"}
        for name, what in called.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise DataError(f"expected {what} > 0, got {value:g}")
        for name in ("checkpoint_every", "retain_limit"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise DataError(f"expected {name} >= 0, got {value:g}")
        if self.agree_share is not None and not 0 < self.agree_share < 1:
            raise DataError(f"expected agree_share above 0 and below 1, got {self.agree_share:g}")
        if self.on_retain_limit not in ("stop", "go-on"):
            raise DataError(f"expected on_retain_limit of stop, go-on, got {self.on_retain_limit!r}")
        if self.schedule not in SCHEDULES:
            raise DataError(f"expected a schedule of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        parse_device(self.device)
        for metric in self.metrics:
            if metric not in METRICS:
                raise DataError(f"expected metrics of {', '.join(METRICS)}, got {metric!r}")
        if self.best.rpartition(" ")[2] not in (LOSS, *METRICS):
            raise DataError(f"expected best of {', '.join((LOSS, *METRICS))}, got {self.best!r}")
        if self.epochs is not None and self.steps is not None:
            raise DataError("expected epochs or steps, got both", remedy="leave one out")
        if self.schedule != "constant" and self.last_step(1) is None:
            raise DataError(f"the schedule {self.schedule} needs a run of known length", remedy="give epochs or steps")

    @property
    def peak(self) -> float:
        """The largest learning rate; where none is said, that of weights that were trained before."""
        return LEARNING_RATE if self.learning_rate is None else self.learning_rate

    def for_mode(self, mode: object) -> TrainOptions:
        """Returns the same with a learning rate: where none is said, that of the mode of what trains.

        Side paths start at nothing, and want ten times the rate of weights that were trained before.
        """
        rate = SIDE_PATH_LEARNING_RATE if self.learning_rate is None and mode == "adapter" else self.peak
        return replace(self, learning_rate=rate)

    def batches_per_epoch(self, samples: int, fixed_batch: Optional[int]) -> int:
        """Returns the batches of an epoch. Where the model fixes their size, the rest waits for the next epoch's order."""
        return samples // self.batch if fixed_batch else -(-samples // self.batch)

    def steps_per_epoch(self, samples: int, fixed_batch: Optional[int]) -> int:
        """Returns the steps of an epoch; the last one takes the batches that are left."""
        return -(-self.batches_per_epoch(samples, fixed_batch) // self.accumulate)

    def last_step(self, per_epoch: int) -> Optional[int]:
        """Returns the step that the run ends with, where an epoch has ``per_epoch``; None if only time limits it."""
        if self.steps is not None:
            return self.steps
        if self.epochs is None and self.max_time is not None:
            return None
        return (DEFAULT_EPOCHS if self.epochs is None else self.epochs) * per_epoch
