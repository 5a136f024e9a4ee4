"""A training run, from data and options to a report; `tgdonnx.finetuning.loop` does the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.locking import announce, locked
from tgdonnx.artifacts.manifest import LOG, LOG_TABLE, RUN, Manifest
from tgdonnx.data import DataSource
from tgdonnx.engines import Engine
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.outputs import Kind, optional, require_outputs
from tgdonnx.finetuning.acceptance import Acceptance, against_noise, read_acceptance, require_judgeable
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.disk_space import needs_of_run, require_space
from tgdonnx.finetuning.evaluation import Evaluator
from tgdonnx.finetuning.fitting import fit
from tgdonnx.finetuning.logs import Log
from tgdonnx.finetuning.loop import Run, run_until_stop
from tgdonnx.finetuning.measures import measurable
from tgdonnx.finetuning.metrics import LOSS
from tgdonnx.finetuning.noise2noise import PATIENCE, Noise2Noise
from tgdonnx.finetuning.opening import batch_remarks, best_of, class_axes, fitting_batch, open_data, remarks_of
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.recording import write_record
from tgdonnx.finetuning.reports import Best, Epoch, Stop, TrainReport
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.same_data import other_data
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState, has_data, require_same_settings, settings_of
from tgdonnx.finetuning.tensorboard import Board, require_board
from tgdonnx.finetuning.watching import Watch
from tgdonnx.runtime import Device, parse_device, usable_device


def train(
    directory: StrPath,
    data: Union[RunData, DataSource, Noise2Noise],
    options: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    resume: bool = False,
    acceptance: Optional[StrPath] = None,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> TrainReport:
    """Trains the artifacts in a directory.

    Leaves there a newer ``checkpoint``, the record ``run.json``, and the logs ``log.jsonl`` and ``log.csv``. With validation
    data the best epoch is kept as ``checkpoint.best``; it may be the start.

    Args:
        directory: the artifacts directory.
        data: what to train on, and what to look at besides; a source alone is what to train on.
        options: how to train.
        resume: continue the run in the directory. Data and options must be its own, except for those that say when it ends,
            validates and saves; ``epochs`` and ``steps`` may be others only with a constant learning rate.
        acceptance: a file of criteria that the tuned model has to meet, see `tgdonnx.finetuning.acceptance`. The record has
            them; `tgdonnx.report` with validation data judges. A run that goes on keeps its own.
        watch: who looks on, and what stops it; then the report says so.

    Raises:
        ArtifactsError: the directory is not usable, holds a run although ``resume`` is not given, or holds none although
            it is.
        DataError: data or an option does not fit.
        DivergedError: the loss became NaN or infinite. The last checkpoint is kept.
        OutputError: a checkpoint cannot be written.
        RuntimeMissingError: onnxruntime-training, or what writes for TensorBoard, is not installed; or there is no such device.
    """
    directory = Path(directory)
    run_data = RunData.of(data)
    require_outputs(optional(watch.tensorboard, Kind.ADDED_TO), [directory, *run_data.read, acceptance])
    criteria = None if acceptance is None else read_acceptance(Path(acceptance))
    if criteria is not None and run_data.against_noise:
        raise DataError(
            "criteria on the part of two noisy images that is held out are judged by `tgdonnx.finetune` alone",
            remedy="use that, or pass validation data with clean targets",
        )
    engine = read_manifest(directory).runtime  # no lock is put into what is no artifacts directory
    device = training_device(engine, options.device)
    with locked(directory):
        session = Session(directory, device=device)
        return train_session(session, run_data, options, resume=resume, watch=watch, acceptance=criteria)


def train_session(
    session: Session,
    run_data: RunData,
    options: TrainOptions,
    *,
    resume: bool = False,
    watch: Watch,
    acceptance: Optional[Acceptance] = None,
    remarks: Sequence[str] = (),
) -> TrainReport:
    """Does what `train` does with artifacts that are open; the caller holds the lock of their directory.

    ``remarks`` are those of the caller, which are made with our own: once nothing of what was asked for is refused any more.

    Raises:
        TgdonnxError: as `train`.
    """
    directory, asked = session.directory, options
    options = fitting_batch(session.manifest, options).for_mode(session.manifest.selection.get("mode"))
    if isinstance(run_data.data, Noise2Noise) and options.patience is None:
        options = replace(options, patience=PATIENCE)
    try:
        training, validating, retention = open_data(session, run_data, options)
        options = replace(options, best=best_of(options.best, validating))
        if acceptance is not None:
            _require_judgeable(acceptance, session.manifest, run_data, training, validating)
    except DataError as error:
        raise fit(session, run_data, options).told(error) from error
    session.close_predictor()
    reasons = class_axes(session.manifest)
    settings = settings_of(options, training, retention.guarded if retention else None)
    state = _start(session, training, settings, resume=resume)
    if watch.tensorboard is not None:
        require_board(Path(watch.tensorboard))
    left = options.last_step(options.steps_per_epoch(len(training), session.manifest.fixed_batch))
    require_space(needs_of_run(session, None if left is None else max(0, left - state.step)))
    step = state.step if resume and state.recorded >= 0 else None
    announce(directory)
    write_record(directory, session.manifest, options, run_data, training, validating, retention, step, acceptance)
    _clean(directory, session.manifest)
    for remark in (*remarks, *batch_remarks(asked, options), *reasons, *remarks_of(training, validating, retention)):
        watch.on_remark(remark)
    log = Log(directory, state)
    board = Board(Path(watch.tensorboard), state.step) if watch.tensorboard is not None else None
    with closing(board) if board is not None else nullcontext():
        run = Run(session, training, options, validating, retention, log, board, watch.on_progress, watch.on_epoch)
        state, stop = run_until_stop(run, state, watch.stop_on, watch.is_wanted)
    return _report(state, stop, log, validating, session.manifest.runtime, options.best)


def training_device(engine: Engine, name: str) -> Device:
    """Returns the device of a run; to be called before anything is written.

    Args:
        engine: what trains.
        name: of the device.

    Raises:
        DataError: there is no device of that name.
        RuntimeMissingError: the engine does not train on it, or the runtime that is installed cannot use it.
    """
    engine.require_device(parse_device(name))
    return usable_device(name)


def _require_judgeable(
    acceptance: Acceptance, manifest: Manifest, run_data: RunData, training: Samples, validating: Optional[Evaluator]
) -> None:
    if validating is None:
        raise DataError("criteria are judged on validation data, and there is none", remedy="pass validation data")
    if validating.seen_in_training:
        raise DataError(
            f"criteria are judged on data that was not trained on, and {validating.seen_in_training}",
            remedy="leave these samples out of either",
        )
    measured: Mapping[str, Sequence[str]] = measurable(manifest, validating.shapes, validating.dataset.classes)
    if run_data.against_noise:
        measured = against_noise(acceptance, measured)
    cases = validating.dataset.cases
    if acceptance.groups is not None:
        acceptance.groups.require_known(cases, [file["path"] for file in training.describe()["files"]])
    require_judgeable(acceptance, measured, acceptance.grouped(cases))


def _start(session: Session, training: Samples, settings: Mapping[str, object], *, resume: bool) -> RunState:
    state = session.run_state
    if not resume:
        if state is not None:
            raise ArtifactsError(
                f"{session.directory} holds a run ({state.step} steps)",
                remedy="continue it with `resume=True`, or build again",
            )
        return RunState(0, 0, settings)
    if state is None:
        if read_record(session.directory) is not None:  # it was cut off before its first checkpoint
            return RunState(0, 0, settings)
        raise ArtifactsError(f"{session.directory} holds no run to resume", remedy="train it without `resume`")
    require_same_settings(state, settings)
    if not has_data(state, settings):
        raise other_data(read_record(session.directory), training)
    return state


def _clean(directory: Path, manifest: Manifest) -> None:
    """Deletes what a killed process left: files that were to take the place of others."""
    for name in (manifest.runtime.checkpoint, manifest.runtime.best_checkpoint, LOG, LOG_TABLE, RUN):
        for path in directory.glob(f".{name}.*.tmp"):
            path.unlink(missing_ok=True)


def _report(
    state: RunState, stop: Stop, log: Log, validating: Optional[Evaluator], engine: Engine, by: str
) -> TrainReport:
    # Where the log was lost, and there was nothing left to do, the state knows a little.
    epochs = tuple(log.epochs) or (Epoch(state.epoch, state.step, None, state.validation, 0.0),)
    last = epochs[-1]
    if state.best_step is not None and state.best_epoch is not None:
        value = state.best_loss if by == LOSS else state.best_value
        best = Best(state.best_epoch, state.best_step, state.best_loss, engine.best_checkpoint, by, value)
    else:
        best = Best(last.epoch, last.step, last.loss, engine.checkpoint, LOSS, last.loss)
    data_range = validating.data_range if validating is not None else None
    return TrainReport(state.step, tuple(log.losses), epochs, best, state.seconds, stop, data_range)
