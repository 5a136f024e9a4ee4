"""The training loop.

The order of the samples in an epoch depends on the seed and the epoch alone, and everything else that moves is in the
checkpoint, so a run that was cut off continues with the same losses as if it had not been.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tgdonnx.artifacts.manifest import BEST_CHECKPOINT, CHECKPOINT, LOG, Manifest
from tgdonnx.data import DataOptions, Dataset, DataSource, open_training
from tgdonnx.errors import ArtifactsError, DataError, DivergedError
from tgdonnx.finetuning.schedules import SCHEDULES, ScheduleName, learning_rate_at
from tgdonnx.finetuning.session import RunState, Session
from tgdonnx.modelfile import StrPath, write_bytes


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        epochs: passes over the data.
        batch: samples per step.
        learning_rate: the largest learning rate.
        schedule: how it goes on from there; see `tgdonnx.finetuning.schedules`.
        warmup: steps over which it first rises.
        seed: of the order of the samples.
    """

    epochs: int = 10
    batch: int = 8
    learning_rate: float = 1e-4
    schedule: ScheduleName = "constant"
    warmup: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("warmup", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise DataError(f"expected {name} >= {least}, got {getattr(self, name)}")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise DataError(f"expected a learning rate > 0, got {self.learning_rate:g}")
        if self.schedule not in SCHEDULES:
            raise DataError(f"expected a schedule of {', '.join(SCHEDULES)}, got {self.schedule!r}")


@dataclass(frozen=True)
class Epoch:
    """One epoch of a run.

    Attributes:
        epoch: counted from 1; 0 is the start, before any training.
        step: steps done after it.
        loss: mean training loss over its steps, each before its update; None at the start.
        validation: mean loss over the validation data after it; None without validation data.
        seconds: how long it took.
    """

    epoch: int
    step: int
    loss: Optional[float]
    validation: Optional[float]
    seconds: float


@dataclass(frozen=True)
class Best:
    """The epoch of the lowest validation loss; the last one, without validation data.

    Attributes:
        epoch: which; 0 is the vendor's model.
        step: steps done by then.
        loss: its validation loss, or without validation data its training loss.
        checkpoint: the file in the artifacts directory.
    """

    epoch: int
    step: int
    loss: float
    checkpoint: str


@dataclass(frozen=True)
class TrainReport:
    """A run, including what was done before it was resumed.

    Attributes:
        steps: steps done.
        loss: the training loss of every step, before its update.
        epochs: the epochs, from the start on.
        best: the epoch to keep.
        seconds: time spent training and validating.
    """

    steps: int
    loss: tuple[float, ...]
    epochs: tuple[Epoch, ...]
    best: Best
    seconds: float


@dataclass(frozen=True)
class Progress:
    """What is told after every step.

    Attributes:
        epoch: the epoch under way, counted from 1.
        step: steps done.
        steps: steps of the whole run.
        loss: the training loss of this step.
        validation: the latest validation loss, or None.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    validation: Optional[float]


def train(
    directory: StrPath,
    data: DataSource,
    options: TrainOptions = TrainOptions(),  # frozen
    *,
    validation: Optional[DataSource] = None,
    data_options: DataOptions = DataOptions(),  # noqa: B008  # frozen
    renamed: Optional[Mapping[str, str]] = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_remark: Callable[[str], None] = lambda _: None,
) -> TrainReport:
    """Trains the artifacts in a directory; leaves a newer ``checkpoint`` and a log, ``log.jsonl``.

    With validation data the epoch of the lowest validation loss is kept as ``checkpoint.best``; it may be the start.

    Args:
        directory: the artifacts directory.
        data: arrays named like the model's inputs, and ``target``; see `tgdonnx.data`.
        options: how to train.
        validation: the same for data that is not trained on.
        data_options: how the data is read, matched, varied and divided.
        renamed: for names of arrays the input that they are for; added to those of ``data_options``.
        resume: continue the run whose checkpoint is in the directory. The options must be its own; only with a constant
            learning rate may ``epochs`` be others.
        on_progress: called after every step.
        on_remark: called with everything that is worth knowing about the data, before the first step.

    Raises:
        ArtifactsError: the directory is not usable, holds a run although ``resume`` is not given, or holds none although
            it is.
        DataError: data or an option does not fit.
        DivergedError: the loss became NaN or infinite. The last checkpoint is kept.
        OutputError: a checkpoint cannot be written.
    """
    directory = Path(directory)
    session = Session(directory)
    manifest = session.manifest
    data_options = replace(data_options, renamed={**data_options.renamed, **(renamed or {})})
    training, held_out = open_training(data, manifest.inputs, data_options, validation=validation, seed=options.seed)
    _require_batch(manifest, options.batch, held_out)
    if not _steps_per_epoch(manifest, len(training), options.batch):
        raise DataError(f"the model fixes the batch size at {options.batch}; found only {len(training)} samples")
    state = _start(session, _settings(options, training, data_options), resume=resume)
    for dataset in (training, held_out):
        if dataset is not None:
            session.require_fit(dataset)
            for remark in dataset.remarks:
                on_remark(remark)
    log = _Log(directory / LOG, state.step)
    return _run(session, state, training, held_out, options, log, on_progress)


def _settings(options: TrainOptions, training: Dataset, data_options: DataOptions) -> dict[str, Any]:
    """Returns what a resumed run must share with the one that it continues."""
    settings = {**asdict(options), "samples": len(training), "data": json.loads(json.dumps(asdict(data_options)))}
    if options.schedule == "constant":
        del settings["epochs"]
    return settings


def _start(session: Session, settings: Mapping[str, Any], *, resume: bool) -> RunState:
    state = session.run_state
    if not resume:
        if state is not None:
            raise ArtifactsError(
                f"{session.directory} holds a run ({state.step} steps); continue it with --resume, or build again"
            )
        return RunState(0, 0, settings)
    if state is None:
        raise ArtifactsError(f"{session.directory} holds no run to resume; train it without --resume")
    for name in {**state.settings, **settings}:
        if state.settings.get(name) != settings.get(name):
            raise ArtifactsError(
                f"the run was started with {name} = {state.settings.get(name)}, not {settings.get(name)}; "
                "resume it with the same data and options"
            )
    return state


def _run(
    session: Session,
    state: RunState,
    training: Dataset,
    validation: Optional[Dataset],
    options: TrainOptions,
    log: _Log,
    on_progress: Callable[[Progress], None],
) -> TrainReport:
    per_epoch = _steps_per_epoch(session.manifest, len(training), options.batch)
    total = per_epoch * options.epochs
    if state.epoch == 0 and not log.epochs:
        log.add_epoch(_finish_epoch(session, 0, 0, None, validation, options.batch, time.monotonic(), state.step))
    latest = log.epochs[-1].validation if log.epochs else None
    state = _keep_best(session, state, latest)
    session.save(CHECKPOINT, state)
    for epoch in range(state.epoch + 1, options.epochs + 1):
        begin = time.monotonic()
        losses = []
        for index, batch in enumerate(training.batches(options.batch, epoch=epoch, seed=options.seed)):
            if index == per_epoch:
                break
            step = (epoch - 1) * per_epoch + index
            rate = learning_rate_at(
                step, total, peak=options.learning_rate, schedule=options.schedule, warmup=options.warmup
            )
            loss = session.step(batch, rate)
            if not np.isfinite(loss):
                raise DivergedError(_diverged(f"the loss is {loss} at step {step + 1}", state.step))
            losses.append(loss)
            log.add_step(step + 1, epoch, loss, rate)
            on_progress(Progress(epoch, step + 1, total, loss, latest))
        if not session.parameters_are_finite():
            raise DivergedError(_diverged(f"a weight is not finite after step {epoch * per_epoch}", state.step))
        done = _finish_epoch(
            session, epoch, epoch * per_epoch, float(np.mean(losses)), validation, options.batch, begin, state.step
        )
        log.add_epoch(done)
        latest = done.validation
        state = RunState(epoch, done.step, state.settings, state.best_loss, state.best_epoch, state.best_step)
        state = _keep_best(session, state, latest)
        session.save(CHECKPOINT, state)
    if not log.epochs:  # the log is lost, and there was nothing left to do
        log.add_epoch(
            _finish_epoch(
                session, state.epoch, state.step, None, validation, options.batch, time.monotonic(), state.step
            )
        )
    last = log.epochs[-1]
    if state.best_loss is not None and state.best_epoch is not None and state.best_step is not None:
        best = Best(state.best_epoch, state.best_step, state.best_loss, BEST_CHECKPOINT)
    else:
        best = Best(last.epoch, last.step, last.loss if last.loss is not None else float("nan"), CHECKPOINT)
    return TrainReport(state.step, tuple(log.losses), tuple(log.epochs), best, sum(e.seconds for e in log.epochs))


def _finish_epoch(
    session: Session,
    epoch: int,
    step: int,
    loss: Optional[float],
    validation: Optional[Dataset],
    batch: int,
    begin: float,
    kept: int,
) -> Epoch:
    held_out = None
    if validation is not None:
        held_out = session.mean_loss(validation.batches(batch))
        if not np.isfinite(held_out):
            raise DivergedError(_diverged(f"the validation loss is {held_out} after step {step}", kept))
    return Epoch(epoch, step, loss, held_out, time.monotonic() - begin)


def _keep_best(session: Session, state: RunState, validation: Optional[float]) -> RunState:
    if (
        validation is None
        or not np.isfinite(validation)
        or (state.best_loss is not None and validation >= state.best_loss)
    ):
        return state
    state = RunState(state.epoch, state.step, state.settings, validation, state.epoch, state.step)
    session.save(BEST_CHECKPOINT, state)
    return state


def _steps_per_epoch(manifest: Manifest, samples: int, batch: int) -> int:
    # With a batch size that is fixed in the model, what is left over waits for the next epoch's order.
    return samples // batch if manifest.fixed_batch else -(-samples // batch)


def _require_batch(manifest: Manifest, batch: int, validation: Optional[Dataset]) -> None:
    fixed = manifest.fixed_batch
    if fixed is not None and batch != fixed:
        raise DataError(f"the model fixes the batch size at {fixed}; got a batch of {batch}")
    if fixed is not None and validation is not None and len(validation) % fixed:
        raise DataError(
            f"the model fixes the batch size at {fixed}; expected a multiple of it as validation samples, "
            f"found {len(validation)}"
        )


def _diverged(what: str, kept: int) -> str:
    return (
        f"training diverged: {what}; the checkpoint of step {kept} is kept. "
        "Try a smaller learning rate, or clip the gradient (build --clip-norm)"
    )


class _Log:
    """``log.jsonl``: one line per step and one per epoch. Lines of steps that no checkpoint holds are dropped on resume."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self.losses: list[float] = []
        self.epochs: list[Epoch] = []
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        kept = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off in the middle
            if entry.get("step", step + 1) > step:
                continue
            kept.append(line)
            if entry["kind"] == "step":
                self.losses.append(entry["loss"])
            else:
                self.epochs.append(Epoch(**{name: entry[name] for name in Epoch.__dataclass_fields__}))
        write_bytes(path, "".join(line + "\n" for line in kept).encode())

    def add_step(self, step: int, epoch: int, loss: float, learning_rate: float) -> None:
        self.losses.append(loss)
        self._write({"kind": "step", "step": step, "epoch": epoch, "loss": loss, "learning_rate": learning_rate})

    def add_epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        self._write({"kind": "epoch", **asdict(epoch)})

    def _write(self, entry: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
