"""All stages in one go."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Optional

from tgdonnx.artifacts import BuildReport, Form, GradientKind, OptimizerName, build
from tgdonnx.errors import StoppedError
from tgdonnx.finetuning import DataSource, Progress, TrainOptions, TrainReport, train
from tgdonnx.masks import MaskReport, mask
from tgdonnx.modelfile import StrPath, require_writable
from tgdonnx.reporting import PageReport, report, require_page
from tgdonnx.selection import Mode, Strategy
from tgdonnx.verification import VerifyReport, verify
from tgdonnx.writeback import ExportReport, export


@dataclass(frozen=True)
class FinetuneReport:
    """The reports of the stages."""

    mask: MaskReport
    build: BuildReport
    train: TrainReport
    export: ExportReport
    verify: VerifyReport
    page: Optional[PageReport] = None


def finetune(
    model: StrPath,
    data: DataSource,
    output: StrPath,
    strategy: Strategy,
    options: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    mode: Mode = "paper",
    loss: str = "mse",
    data_range: float = 1.0,
    optimizer: OptimizerName = "adamw",
    l2: float = 0.0,
    l2_sp: float = 0.0,
    clip_norm: Optional[float] = None,
    gradient: GradientKind = "mask",
    form: Form = "masked",
    output_name: Optional[str] = None,
    validation: Optional[DataSource] = None,
    retain: Optional[DataSource] = None,
    renamed: Optional[Mapping[str, str]] = None,
    page: Optional[StrPath] = None,
    artifacts: Optional[StrPath] = None,
    overwrite: bool = False,
    tensorboard: Optional[StrPath] = None,
    stop_on: Collection[Signals] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> FinetuneReport:
    """Masks, builds, trains, exports and verifies. The arguments are those of the stages.

    Args:
        model: the vendor's file.
        data: arrays named like the model's inputs, and ``target``.
        output: the tuned model to write.
        strategy: which filters to retrain.
        options: how to train.
        mode: masks per filter (``paper``), or per kernel (``readers``).
        loss: what training minimises: a name, or a weighted sum.
        data_range: of the data, for the losses charbonnier and ssim.
        optimizer: ``adamw`` or ``sgd``.
        l2: regularisation of the weights that train.
        l2_sp: pull of what trains to the vendor's values.
        clip_norm: largest norm of the gradient.
        gradient: ``mask`` or ``gate``.
        form: ``masked`` or ``thin``.
        output_name: the output of the model to train on, when it has several.
        validation: data that is not trained on; the epoch that does best on it is exported.
        retain: data of the vendor's own task, which is evaluated besides; see `tgdonnx.train`.
        renamed: for names of arrays the input that they are for.
        page: a report to write, an HTML page, with samples of the validation data, or else of the data.
        artifacts: a directory to keep the artifacts in; they are deleted if it is None.
        overwrite: whether ``output``, ``page`` and ``artifacts`` may exist.
        tensorboard: a directory for event files of TensorBoard.
        stop_on: signals that stop training; nothing is exported then.
        on_progress: called after every training step.

    Raises:
        StoppedError: a signal stopped training.
        TgdonnxError: as the stages do.
    """
    output = require_writable(output, overwrite=overwrite, keep=model)
    if page is not None:
        page = require_page(page, overwrite=overwrite)
    work = Path(tempfile.mkdtemp(prefix="tgdonnx-"))
    try:
        directory = Path(artifacts) if artifacts is not None else work / "artifacts"
        masked = mask(model, work / "masked.onnx", strategy, mode=mode)
        built = build(
            work / "masked.onnx",
            directory,
            loss=loss,
            data_range=data_range,
            optimizer=optimizer,
            l2=l2,
            l2_sp=l2_sp,
            clip_norm=clip_norm,
            gradient=gradient,
            form=form,
            output=output_name,
            overwrite=overwrite,
        )
        trained = train(
            directory,
            data,
            options,
            validation=validation,
            retain=retain,
            renamed=renamed,
            tensorboard=tensorboard,
            stop_on=stop_on,
            on_progress=on_progress,
        )
        if trained.stop.signal is not None:
            kept = "nothing is kept; next time, keep the run with --artifacts DIR"
            if artifacts is not None:
                kept = (
                    f"{artifacts} holds the run: go on with `tgdonnx train {artifacts} --resume` and the same options"
                )
            raise StoppedError(f"{trained.stop.reason}; {kept}", trained.stop.signal)
        exported = export(directory, output, overwrite=overwrite)
        verified = verify(model, output, masked=work / "masked.onnx")
        written = None
        if page is not None:
            shown = data if validation is None else validation
            written = report(
                directory, page, model=model, tuned=output, data=shown, renamed=renamed, overwrite=overwrite
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return FinetuneReport(masked, built, trained, exported, verified, written)
