"""A training run, from data and options to a report; `tgdonnx.finetuning.loop` does the work."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from tgdonnx.artifacts import read_manifest, vendor_targets
from tgdonnx.artifacts.locking import announce, locked
from tgdonnx.artifacts.manifest import LOG, LOG_TABLE, RUN, Manifest
from tgdonnx.data import Dataset, DataSource, Prefetched, open_like, open_training
from tgdonnx.engines import Engine
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.outputs import Kind, optional, require_outputs
from tgdonnx.finetuning.agreement import Samples, with_agreement
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.disk_space import needs_of_run, require_space
from tgdonnx.finetuning.evaluation import Evaluator, evaluator
from tgdonnx.finetuning.logs import Log
from tgdonnx.finetuning.loop import Run, run_until_stop
from tgdonnx.finetuning.noise2noise import PATIENCE, Noise2Noise, open_pair
from tgdonnx.finetuning.options import DEFAULT_AGREE_SHARE, TrainOptions
from tgdonnx.finetuning.reports import Best, Epoch, Stop, TrainReport
from tgdonnx.finetuning.retention import Retention, open_retention
from tgdonnx.finetuning.run_record import read_record, write_record
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState, require_same_settings, settings_of
from tgdonnx.finetuning.tensorboard import Board, require_board
from tgdonnx.finetuning.watching import Watch
from tgdonnx.graphs.tensor_specs import count_inputs
from tgdonnx.runtime import Device, parse_device, usable_device


def train(
    directory: StrPath,
    data: Union[RunData, DataSource, Noise2Noise],
    options: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    resume: bool = False,
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
    require_outputs(optional(watch.tensorboard, Kind.ADDED_TO), [directory, *run_data.read])
    engine = read_manifest(directory).runtime  # no lock is put into what is no artifacts directory
    device = training_device(engine, options.device)
    with locked(directory):
        return train_session(Session(directory, device=device), run_data, options, resume=resume, watch=watch)


def train_session(
    session: Session, run_data: RunData, options: TrainOptions, *, resume: bool = False, watch: Watch
) -> TrainReport:
    """Does what `train` does with artifacts that are open; the caller holds the lock of their directory.

    Raises:
        TgdonnxError: as `train`.
    """
    directory, asked = session.directory, options
    options = fitting_batch(session.manifest, options)
    if isinstance(run_data.data, Noise2Noise) and options.patience is None:
        options = replace(options, patience=PATIENCE)
    training, validating, retention = open_data(session, run_data, options)
    session.close_predictor()
    reasons = class_axes(session.manifest)
    settings = settings_of(options, training, retention.guarded if retention else None)
    state = _start(session, settings, resume=resume)
    if watch.tensorboard is not None:
        require_board(Path(watch.tensorboard))
    left = options.last_step(options.steps_per_epoch(len(training), session.manifest.fixed_batch))
    require_space(needs_of_run(session, None if left is None else max(0, left - state.step)))
    step = state.step if resume and state.recorded >= 0 else None
    announce(directory)
    write_record(directory, session.manifest, options, run_data, training, validating, retention, step)
    _clean(directory, session.manifest)
    for remark in (*batch_remarks(asked, options), *reasons, *remarks_of(training, validating, retention)):
        watch.on_remark(remark)
    log = Log(directory, state)
    board = Board(Path(watch.tensorboard), state.step) if watch.tensorboard is not None else None
    with closing(board) if board is not None else nullcontext():
        run = Run(session, training, options, validating, retention, log, board, watch.on_progress, watch.on_epoch)
        state, stop = run_until_stop(run, state, watch.stop_on)
    return _report(state, stop, log, validating, session.manifest.runtime)


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


def open_data(
    session: Session, run_data: RunData, options: TrainOptions
) -> tuple[Samples, Optional[Evaluator], Optional[Retention]]:
    """Opens the data of a run, as `train` describes it; nothing is written.

    Raises:
        DataError: data or an option does not fit.
        ArtifactsError: the vendor's model is needed and does not run, or its outputs cannot be targets.
    """
    inputs, reading, retain, agree = session.manifest.inputs, run_data.reading, run_data.retain, run_data.agree
    data, validation = run_data.data, run_data.validation
    if isinstance(data, Noise2Noise):
        if validation is not None:
            raise DataError(
                "of two noisy images a part is held out to validate with", remedy="leave out the validation data"
            )
        data, validation = open_pair(data, inputs, reading)
    validated = validation is not None or reading.validation_split is not None
    if options.patience is not None and not validated:
        raise DataError(
            "patience counts validations, and there is no validation data", remedy="pass it, or leave it out"
        )
    if options.retain_limit is not None and retain is None:
        raise DataError(
            "a limit of retention needs data of the vendor's own task", remedy="pass retain, or leave the limit out"
        )
    if (options.metrics or options.metric_range) and not validated and retain is None:
        raise DataError("metrics are taken of validation data or of data to retain", remedy="pass one of them")
    if options.agree_share is not None and agree is None:
        raise DataError("a share of images to agree on needs those images", remedy="pass agree, or leave the share out")
    labelled, held_out = open_training(data, inputs, reading, validation=validation, seed=options.seed)
    if reading.crop_target is True:
        reading = replace(reading, crop_target=session.border(labelled))
        labelled, held_out = open_training(data, inputs, reading, validation=validation, seed=options.seed)
    _require_batch(session.manifest, options, labelled)
    if held_out is not None:
        require_whole_batches(session.manifest, options.batch, held_out, "validation")
    for dataset in (labelled, held_out):
        if dataset is not None:
            session.require_fit(dataset)
    training = Prefetched(labelled) if agree is None else _agreeing(session, labelled, agree, options)
    batch, data_range = options.batch, options.metric_range
    validating = evaluator(session, held_out, batch, options.metrics, data_range) if held_out is not None else None
    retention = None
    if retain is not None:
        retention = open_retention(
            session, labelled, retain, batch=batch, metrics=options.metrics, data_range=data_range
        )
        require_whole_batches(session.manifest, batch, retention.dataset, "retention")
    return training, validating, retention


def fitting_batch(manifest: Manifest, options: TrainOptions) -> TrainOptions:
    """Returns options with a batch of 1 where the model fixes that, and as many batches per step as a batch had samples."""
    if manifest.fixed_batch != 1 or options.batch == 1:
        return options
    return replace(options, batch=1, accumulate=options.batch * options.accumulate)


def batch_remarks(asked: TrainOptions, options: TrainOptions) -> tuple[str, ...]:
    """Returns what is said of a batch that is another than was asked for."""
    if asked.batch == options.batch:
        return ()
    return (
        f"the model fixes the batch size at {options.batch}: `batch={options.batch}, accumulate={options.accumulate}`, a step "
        f"is of {options.accumulate} samples as before",
    )


def class_axes(manifest: Manifest) -> tuple[str, ...]:
    """Returns what is said of outputs of which another axis than 1 counts classes."""
    return tuple(
        f"{head.output}: axis {head.class_axis} counts classes, for {head.why_class_axis}"
        for head in manifest.heads
        if head.class_axis not in (None, 1)
    )


def remarks_of(training: Samples, validating: Optional[Evaluator], retention: Optional[Retention]) -> tuple[str, ...]:
    """Returns what is worth knowing about the data of a run, everything once."""
    evaluated = [each.dataset for each in (validating, retention) if each is not None]
    said = (*training.remarks, *(remark for dataset in evaluated for remark in dataset.remarks))
    return tuple(dict.fromkeys(said))


def _agreeing(session: Session, labelled: Dataset, agree: DataSource, options: TrainOptions) -> Samples:
    """Mixes images to agree on into the training data; they are read, cut and turned as it is."""
    inputs, count = session.manifest.inputs, count_inputs(session.manifest.inputs)
    ignored = [spec.name for spec in inputs[count:]]
    images = open_like(labelled, agree, inputs[:count], purpose="training", ignored=ignored)
    share = DEFAULT_AGREE_SHARE if options.agree_share is None else options.agree_share
    fixed = session.manifest.fixed_batch
    vendor, shared = vendor_targets(session.artifacts, session.device), labelled.shared | images.shared
    images.require_batch(options.batch)
    return with_agreement(
        Prefetched(labelled), Prefetched(images), vendor, share=share, fixed_batch=fixed, shared=shared
    )


def _start(session: Session, settings: Mapping[str, object], *, resume: bool) -> RunState:
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
    return state


def _clean(directory: Path, manifest: Manifest) -> None:
    """Deletes what a killed process left: files that were to take the place of others."""
    for name in (manifest.runtime.checkpoint, manifest.runtime.best_checkpoint, LOG, LOG_TABLE, RUN):
        for path in directory.glob(f".{name}.*.tmp"):
            path.unlink(missing_ok=True)


def _require_batch(manifest: Manifest, options: TrainOptions, dataset: Dataset) -> None:
    """Checks the batch size against the one that the model fixes, if it does.

    Raises:
        DataError: it is another, or there are fewer samples than that; or the data only goes one by one.
    """
    fixed, samples = manifest.fixed_batch, len(dataset)
    if fixed is None:
        dataset.require_batch(options.batch)
        return
    if samples < fixed:
        raise DataError(
            f"the model fixes the batch size at {fixed}; found only {samples} samples: add {fixed - samples}, or ask for the "
            "model exported with an open batch size"
        )
    if options.batch == fixed:
        dataset.require_batch(options.batch)
        return
    # As many samples per update of the weights as were asked for, or a few more.
    accumulate = max(1, -(-options.batch * options.accumulate // fixed))
    remedy = f"batch={fixed}"
    if accumulate != 1 or options.accumulate != 1:
        remedy += f", accumulate={accumulate}"
    raise DataError(f"the model fixes the batch size at {fixed}; got a batch of {options.batch}: use `{remedy}`")


def require_whole_batches(manifest: Manifest, batch: int, dataset: Union[Dataset, Prefetched], role: str) -> None:
    """Checks that data to evaluate on goes into batches, whole ones where the model fixes their size.

    Raises:
        DataError: it does not.
    """
    dataset.require_batch(batch)
    fixed, found = manifest.fixed_batch, len(dataset)
    if fixed is not None and found % fixed:
        less = f"leave out {found % fixed}, or " if found > fixed else ""
        raise DataError(
            f"the model fixes the batch size at {fixed}; expected a multiple of it as {role} samples, found {found}: "
            f"{less}add {fixed - found % fixed}"
        )


def _report(state: RunState, stop: Stop, log: Log, validating: Optional[Evaluator], engine: Engine) -> TrainReport:
    # Where the log was lost, and there was nothing left to do, the state knows a little.
    epochs = tuple(log.epochs) or (Epoch(state.epoch, state.step, None, state.validation, 0.0),)
    last = epochs[-1]
    if state.best_step is not None and state.best_epoch is not None:
        best = Best(state.best_epoch, state.best_step, state.best_loss, engine.best_checkpoint)
    else:
        best = Best(last.epoch, last.step, last.loss, engine.checkpoint)
    data_range = validating.data_range if validating is not None else None
    return TrainReport(state.step, tuple(log.losses), epochs, best, state.seconds, stop, data_range)
