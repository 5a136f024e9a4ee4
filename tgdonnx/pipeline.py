"""All stages in one go."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any, Optional, Union

from numpy.typing import NDArray

from tgdonnx.applying import ApplyReport, apply, require_applicable
from tgdonnx.artifacts import BuildReport, Form, GradientKind, OptimizerName, build, cheapest_form
from tgdonnx.data import DataOptions, DataSource
from tgdonnx.data.layouts import TARGET
from tgdonnx.errors import DataError, NothingLeftError, SelectionError, StoppedError
from tgdonnx.finetuning import Noise2Noise, Progress, TrainOptions, TrainReport, train
from tgdonnx.masks import MaskReport, mask
from tgdonnx.modelfile import StrPath, load_model, require_writable
from tgdonnx.modelwriting import require_data_writable
from tgdonnx.regrowing import Rebirth
from tgdonnx.reporting import PageReport, report, require_page
from tgdonnx.selection import Mode, Strategy
from tgdonnx.verification import VerifyReport, verify
from tgdonnx.writeback import ExportReport, export

Array = NDArray[Any]


@dataclass(frozen=True)
class Round:
    """The reports of the stages of a round; ``verify`` compares with the file that the round started from."""

    mask: MaskReport
    build: BuildReport
    train: TrainReport
    export: ExportReport
    verify: VerifyReport


@dataclass(frozen=True)
class FinetuneReport:
    """The reports of the stages; of several rounds, those of the last.

    Attributes:
        mask: what trains.
        build: the artifacts.
        train: the run.
        export: what was written.
        verify: the proof against the vendor's file, over all rounds.
        earlier: the rounds before.
        note: why there were fewer rounds than asked for; None if there were not.
        apply: what came of applying the tuned model; None if that was not asked for.
        page: the report that was written, of the last round; None if none was asked for.
    """

    mask: MaskReport
    build: BuildReport
    train: TrainReport
    export: ExportReport
    verify: VerifyReport
    earlier: tuple[Round, ...] = ()
    note: Optional[str] = None
    apply: Optional[ApplyReport] = None
    page: Optional[PageReport] = None


def finetune(
    model: StrPath,
    data: Union[DataSource, Noise2Noise],
    output: StrPath,
    strategy: Strategy,
    options: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    mode: Mode = "paper",
    rebirth: Rebirth = Rebirth(),  # noqa: B008  # frozen
    loss: str = "mse",
    data_range: float = 1.0,
    optimizer: OptimizerName = "adamw",
    l2: float = 0.0,
    l2_sp: float = 0.0,
    clip_norm: Optional[float] = None,
    gradient: GradientKind = "mask",
    form: Optional[Form] = None,
    output_name: Optional[str] = None,
    validation: Optional[DataSource] = None,
    retain: Optional[DataSource] = None,
    agree: Optional[DataSource] = None,
    data_options: DataOptions = DataOptions(),  # noqa: B008  # frozen
    renamed: Optional[Mapping[str, str]] = None,
    page: Optional[StrPath] = None,
    artifacts: Optional[StrPath] = None,
    rounds: int = 1,
    protect: bool = False,
    apply_to: Optional[Union[StrPath, Array]] = None,
    applied: Optional[StrPath] = None,
    overwrite: bool = False,
    tensorboard: Optional[StrPath] = None,
    stop_on: Collection[Signals] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_remark: Callable[[str], None] = lambda _: None,
) -> FinetuneReport:
    """Masks, builds, trains, exports and verifies. The arguments are those of the stages.

    Args:
        model: the vendor's file.
        data: arrays named like the model's inputs, and ``target``; or two noisy images of one study.
        output: the tuned model to write.
        strategy: which filters to retrain.
        options: how to train.
        mode: masks per filter (``paper``), or per kernel (``readers``), or with filters reborn (``regrow``).
        rebirth: of mode ``regrow``, how filters are reborn; the tolerance is of each round.
        loss: what training minimises: a name, or a weighted sum.
        data_range: of the data, for the losses charbonnier and ssim.
        optimizer: ``adamw`` or ``sgd``.
        l2: regularisation of the weights that train.
        l2_sp: pull of what trains to where it starts.
        clip_norm: largest norm of the gradient.
        gradient: ``mask`` or ``gate``.
        form: ``masked`` or ``thin``; None for ``thin`` where there is that form, which is not of ``gate``.
        output_name: the output of the model to train on, when it has several.
        validation: data that is not trained on; the epoch that does best on it is exported.
        retain: data of the vendor's own task, which is evaluated besides; see `tgdonnx.train`.
        agree: images whose targets are the vendor's outputs, mixed into the batches; see `tgdonnx.train`. In later rounds they
            are those of the model that the round starts from.
        data_options: how the data is read, matched, varied and divided.
        renamed: for names of arrays the input that they are for.
        page: a report to write, an HTML page, with samples of the validation data, or else of the data.
        artifacts: a directory to keep the artifacts in; they are deleted if it is None. Those of several rounds are in
            ``round-1`` and so on.
        rounds: how often to score, mask and train; each round starts from what the one before wrote.
        protect: whether what an earlier round trained stays as it is.
        apply_to: an image, volume or stack that the tuned model is applied to, as by `tgdonnx.apply`.
        applied: where to write the result; beside ``output``, as ``.applied`` and the suffix of ``apply_to``, if None.
        overwrite: whether ``output``, ``page``, ``artifacts`` and ``applied`` may exist.
        tensorboard: a directory for event files of TensorBoard; for those of several rounds one below it each.
        stop_on: signals that stop training; nothing is exported then.
        on_progress: called after every training step.
        on_remark: called with everything that is worth knowing about the data.

    Raises:
        StoppedError: a signal stopped training.
        TgdonnxError: as the stages do.
    """
    output = require_writable(output, overwrite=overwrite, keep=model)
    require_data_writable(output, load_model(model), overwrite=overwrite)
    if page is not None:
        page = require_page(page, overwrite=overwrite)
    if rounds < 1:
        raise SelectionError(f"expected at least 1 round, got {rounds}")
    layouts = [layout for name, layout in data_options.layouts.items() if name != TARGET]
    layout = layouts[0] if layouts else data_options.layout
    scaled = bool(data_options.scale is not None or data_options.scales)
    if apply_to is not None:
        applied = applied if applied is not None else _beside(output, apply_to)
        require_applicable(
            model, apply_to, applied, layout=layout, scaled=scaled, output_name=output_name, overwrite=overwrite
        )
    elif applied is not None:
        raise DataError(f"there is nothing to apply the tuned model to, so {applied} cannot be written; name the data")
    work = Path(tempfile.mkdtemp(prefix="tgdonnx-"))

    def directory_of(number: int) -> Path:
        kept = Path(artifacts) if artifacts is not None else work / f"round-{number}" / "artifacts"
        return kept / f"round-{number}" if artifacts is not None and rounds > 1 else kept

    def one_round(number: int, base: Path) -> Round:
        place, directory = work / f"round-{number}", directory_of(number)
        (place / "masked").mkdir(parents=True)
        (place / "tuned").mkdir()
        masked = mask(base, place / "masked" / "masked.onnx", strategy, mode=mode, rebirth=rebirth, protect=protect)
        if rounds > 1:
            directory.parent.mkdir(exist_ok=True)
        built = build(
            place / "masked" / "masked.onnx",
            directory,
            loss=loss,
            data_range=data_range,
            optimizer=optimizer,
            l2=l2,
            l2_sp=l2_sp,
            clip_norm=clip_norm,
            gradient=gradient,
            form=form or cheapest_form(gradient),
            output=output_name,
            overwrite=overwrite,
        )
        trained = train(
            directory,
            data,
            options,
            validation=validation,
            retain=retain,
            agree=agree,
            data_options=data_options,
            renamed=renamed,
            tensorboard=Path(tensorboard) / place.name if tensorboard is not None and rounds > 1 else tensorboard,
            stop_on=stop_on,
            on_progress=on_progress,
            on_remark=on_remark,
        )
        if trained.stop.signal is not None:
            kept = "nothing is kept; next time, keep the run with --artifacts DIR"
            if artifacts is not None:
                kept = (
                    f"{directory} holds the run: go on with `tgdonnx train {directory} --resume` and the same options"
                )
            raise StoppedError(f"{trained.stop.reason}; {kept}", trained.stop.signal)
        exported = export(directory, place / "tuned" / output.name)
        verified = verify(base, place / "tuned" / output.name, masked=place / "masked" / "masked.onnx")
        return Round(masked, built, trained, exported, verified)

    done: list[Round] = []
    note = None
    try:
        base = Path(model)
        for number in range(1, rounds + 1):
            try:
                done.append(one_round(number, base))
            except NothingLeftError as error:
                if not done:
                    raise
                note = f"there was no round {number}: {error}"
                break
            base = Path(done[-1].export.output)
        # Each round proved itself; now the last one is written where it shall be.
        exported = export(directory_of(len(done)), output, overwrite=overwrite)
        proof = verify(model, output, masked=work / "round-1" / "masked" / "masked.onnx" if len(done) == 1 else None)
        application = None
        if apply_to is not None and applied is not None:
            application = apply(
                output,
                apply_to,
                applied,
                layout=layout,
                artifacts=directory_of(len(done)) if scaled else None,
                output_name=output_name,
                overwrite=overwrite,
            )
        written = None
        if page is not None:
            shown = validation if validation is not None else None if isinstance(data, Noise2Noise) else data
            written = report(
                directory_of(len(done)),
                page,
                model=model if len(done) == 1 else None,
                tuned=output if len(done) == 1 else None,
                data=shown,
                data_options=data_options,
                renamed=renamed,
                overwrite=overwrite,
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    *earlier, last = done
    return FinetuneReport(
        last.mask, last.build, last.train, exported, proof, tuple(earlier), note, application, written
    )


def _beside(output: Path, data: Union[StrPath, Array]) -> Path:
    """Returns where the result goes if that is not said."""
    suffix = ".npy"
    if isinstance(data, (str, os.PathLike)):
        name = os.fspath(data).lower()
        suffix = next((s for s in (".nii.gz", ".nii") if name.endswith(s)), suffix)
    return output.with_name(f"{output.stem}.applied{suffix}")
