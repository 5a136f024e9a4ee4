"""What a run tells: after every step, after every epoch, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Optional

from tgdonnx.files.typed import AtLeast0, Count, Fraction
from tgdonnx.presenting import Presented

StopRule = Literal["length", "max-time", "patience", "retain-limit", "signal"]


@dataclass(frozen=True)
class Epoch:
    """What was found after an epoch, or at a validation within one (``validate_every``), since the one before.

    Attributes:
        epoch: counted from 1; 0 is the start, before any training.
        step: steps done.
        loss: mean training loss of the steps, each before its update; None at the start.
        validation: mean loss over the validation data; None if there was no validation.
        seconds: how long it took.
        metrics: metrics of the validation data; None in place of a number that is infinite.
        retain: the same for the vendor's own task.
        images_per_second: samples trained on, by the time of the steps; None at the start.
        wait: the fraction of the time of the steps that was spent waiting for data; None at the start.
    """

    epoch: int
    step: int
    loss: Optional[float]
    validation: Optional[float]
    seconds: float
    metrics: Mapping[str, Optional[float]] = field(default_factory=dict)
    retain: Mapping[str, Optional[float]] = field(default_factory=dict)
    images_per_second: Optional[float] = None
    wait: Optional[float] = None


@dataclass(frozen=True)
class Best:
    """The epoch that is best by the validation loss, or another measure, and respects the limit of retention.

    Of equally good ones the first. Without validation data the last one that does; without such a limit the last one.

    Attributes:
        epoch: which; 0 is the vendor's model.
        step: steps done by then.
        loss: its validation loss, or without validation data its training loss; None if that is not known.
        checkpoint: the file in the artifacts directory.
        by: the measure that says which is best (`TrainOptions.best`).
        value: its value there; None if it is not known, or infinite.
    """

    epoch: int
    step: int
    loss: Optional[float]
    checkpoint: str
    by: str = "loss"
    value: Optional[float] = None


@dataclass(frozen=True)
class Stop:
    """Why a run ended.

    Attributes:
        rule: ``length`` (all epochs or steps are done), ``max-time``, ``patience``, ``retain-limit``, or ``signal``.
        reason: the same in words.
        signal: the number of the signal.
    """

    rule: StopRule
    reason: str
    signal: Optional[int] = None


@dataclass(frozen=True, repr=False)
class TrainReport(Presented):
    """A run, including what was done before it was resumed.

    Attributes:
        steps: steps done.
        loss: the training loss of every step, before its update.
        epochs: the epochs, from the start on, and validations between them.
        best: the epoch to keep.
        seconds: time spent training and validating.
        stop: why it ended.
        data_range: the range of the data that psnr and ssim of the validation data were computed with, if they were.
    """

    steps: int
    loss: tuple[float, ...]
    epochs: tuple[Epoch, ...]
    best: Best
    seconds: float
    stop: Stop
    data_range: Optional[float] = None


@dataclass(frozen=True)
class BlendPoint:
    """What the network is at a blend.

    Attributes:
        blend: how far it goes from what training started from (0) to what it came to (1).
        validation: ``loss`` and the metrics of the validation data; None in place of a number that is infinite.
        retain: the metrics of the vendor's own task, the guarded one first; empty without such data.
        uncertainty: the standard error, over the samples, of how far its loss is above the lowest; 0 there, and of one sample.
    """

    blend: Fraction
    validation: Mapping[str, Optional[float]]
    retain: Mapping[str, Optional[float]]
    uncertainty: AtLeast0

    @property
    def loss(self) -> float:
        """The validation loss."""
        loss = self.validation["loss"]
        assert loss is not None
        return loss


@dataclass(frozen=True, repr=False)
class BlendCurve(Presented):
    """A finished run between what training started from and what it came to.

    Attributes:
        curve: by rising blend, from 0 to 1.
        chosen: the blend to take.
        reason: why.
        step: after which step the checkpoint was written that it is of.
    """

    curve: tuple[BlendPoint, ...]
    chosen: float
    reason: str
    step: Count

    @property
    def at_chosen(self) -> BlendPoint:
        """The point that was chosen."""
        return next(point for point in self.curve if point.blend == self.chosen)


@dataclass(frozen=True, repr=False)
class Progress(Presented):
    """What is told after every step.

    Attributes:
        epoch: the epoch under way, counted from 1.
        step: steps done.
        steps: steps of the whole run; None if only time limits it.
        loss: the training loss of this step.
        validation: the latest validation loss, or None.
        metrics: the latest metrics of the validation data.
        images_per_second: samples trained on, by the time of the steps since the last validation.
        wait: the fraction of that time that was spent waiting for data.
        seconds_left: an estimate.
    """

    epoch: int
    step: int
    steps: Optional[int]
    loss: float
    validation: Optional[float]
    metrics: Mapping[str, Optional[float]] = field(default_factory=dict)
    images_per_second: float = 0.0
    wait: float = 0.0
    seconds_left: float = 0.0


@dataclass(frozen=True, repr=False)
class DryRunReport(Presented):
    """What one step says about a run.

    Attributes:
        loss: of the first batches.
        step_seconds: how long a step takes, once warm, with reading its data.
        wait: the fraction of it that is waiting for data.
        steps_per_epoch: steps of an epoch.
        epoch_seconds: how long an epoch will take: its steps, and validating.
        steps: steps of the run; None if only time limits it.
        peak_memory: largest resident memory of the process so far, in bytes; None where it is not told, as only on Linux it is.
        samples: how many there are to train on.
        held_out: how many there are to validate on; 0 without such data.
        retained: how many there are of the vendor's own task; 0 without such data.
    """

    loss: float
    step_seconds: float
    wait: float
    steps_per_epoch: int
    epoch_seconds: float
    steps: Optional[int]
    peak_memory: Optional[int]
    samples: int
    held_out: int
    retained: int
