"""Where a run stands, besides its parameters and its optimizer's state: what a checkpoint holds of ours, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Optional

import msgspec

from tgdonnx.errors import ArtifactsError
from tgdonnx.files.typed import AtLeast0, Count, decode, encode
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.metrics import LOSS
from tgdonnx.finetuning.options import TrainOptions


@dataclass(frozen=True)
class Interval:
    """The steps since the latest record (`tgdonnx.finetuning.Epoch`).

    Attributes:
        steps: how many.
        loss: the sum of their losses.
        seconds: the time that they took.
        wait: how much of it was waiting for data.
        images: the samples that they took.
    """

    steps: Count = 0
    loss: float = 0.0
    seconds: AtLeast0 = 0.0
    wait: AtLeast0 = 0.0
    images: Count = 0


@dataclass(frozen=True)
class RunState:
    """Where a run stands. The place in the data follows from the step, since the order follows from seed and epoch.

    Attributes:
        epoch: whole epochs done.
        step: steps done.
        settings: what the run was started with; a resumed run must have the same.
        best_loss: the validation loss of the best epoch so far, or None.
        best_value: its value of the measure that says which is best; None where that is an infinite psnr.
        best_epoch: that epoch; epochs count from 1, 0 is the start.
        best_step: the step after which it was reached.
        seconds: time spent training and validating.
        recorded: the step of the latest record; -1 before the first.
        validation: the latest validation loss.
        metrics: the latest metrics of the validation data.
        stale: validations since the best.
        retain_start: the metric of the vendor's own task that is guarded, before training.
        retain_fall: by how much it is worse now.
        interval: the steps since the latest record.
    """

    epoch: Count
    step: Count
    settings: Mapping[str, Any]
    best_loss: Optional[float] = None
    best_value: Optional[float] = None
    best_epoch: Optional[Count] = None
    best_step: Optional[Count] = None
    seconds: AtLeast0 = 0.0
    recorded: Annotated[int, msgspec.Meta(ge=-1)] = -1
    validation: Optional[float] = None
    metrics: Mapping[str, Optional[float]] = field(default_factory=dict)
    stale: Count = 0
    retain_start: Optional[float] = None
    retain_fall: Optional[float] = None
    interval: Interval = Interval()  # frozen

    def to_json(self) -> str:
        """Returns the text that `from_json` reads."""
        return encode(self).decode()

    @classmethod
    def from_json(cls, text: str, where: str) -> RunState:
        """Reads what `to_json` wrote.

        Args:
            text: a property of a checkpoint.
            where: the checkpoint, for messages.

        Raises:
            ArtifactsError: it is no state of a run.
        """
        remedy = "use the other checkpoint, or build and train again"
        return decode(text.encode("utf-8", "replace"), cls, f"the state in {where}", remedy=remedy, check=_check)


def _check(state: RunState) -> None:
    if state.recorded > state.step or (state.best_step or 0) > state.step or state.epoch > state.step:
        raise ValueError(
            f"after {state.step} steps, {state.epoch} epochs, a record of step {state.recorded} and a best step "
            f"{state.best_step} cannot be"
        )
    if (state.best_step is None) != (state.best_epoch is None):
        raise ValueError("expected both of best_step and best_epoch, or neither")


_OF_DATA = ("samples", "data")


def settings_of(options: TrainOptions, training: Samples, guarded: Optional[str]) -> dict[str, Any]:
    """Returns what a resumed run must share with the one that it continues: what its losses, and its start, depend on.

    Args:
        options: how to train.
        training: what is trained on.
        guarded: the metric of the vendor's own task that is guarded, if one is.
    """
    names = ["batch", "accumulate", "learning_rate", "schedule", "warmup", "seed"]
    if options.schedule != "constant":
        names += ["epochs", "steps"]
    return {
        **{name: getattr(options, name) for name in names},
        "best": None if options.best == LOSS else options.best,  # None: checkpoints that know no other are resumed, too
        "retain": guarded,
        "samples": len(training),
        "data": training.identity,
    }


def has_data(state: RunState, settings: Mapping[str, Any]) -> bool:
    """Whether a run was started with the data of these settings."""
    return all(state.settings.get(name) == settings.get(name) for name in _OF_DATA)


def require_same_settings(state: RunState, settings: Mapping[str, Any]) -> None:
    """Checks that a run is resumed as it was started, but for its data; see `has_data`.

    Raises:
        ArtifactsError: it is not.
    """
    for name in dict.fromkeys((*state.settings, *settings)):
        was, wanted = state.settings.get(name), settings.get(name)
        if name in _OF_DATA:
            continue
        if was != wanted:
            raise ArtifactsError(
                f"the run was started with {name} = {was}, not {wanted}",
                remedy="resume it with the same data and options",
            )
