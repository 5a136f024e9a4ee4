"""All stages in one go."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Optional, Union

from numpy.typing import NDArray

from tgdonnx.applying import ApplyReport, apply, require_applicable
from tgdonnx.artifacts import Artifacts, BuildOptions, BuildReport, build_masked
from tgdonnx.artifacts.locking import locked
from tgdonnx.blending.curve import blend_run
from tgdonnx.blending.formula import require_blend
from tgdonnx.calls import call
from tgdonnx.data import DataSource
from tgdonnx.engines import ENGINES, default_engine
from tgdonnx.errors import DataError, NothingLeftError, SelectionError, StoppedError
from tgdonnx.exporting import ExportReport, Tuned, export_artifacts, try_export_artifacts
from tgdonnx.files.model_file import ModelFile, StrPath, load_model
from tgdonnx.files.model_writing import require_data_writable, require_same_model
from tgdonnx.files.outputs import Kind, Output, optional, require_outputs
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import (
    BlendCurve,
    Need,
    Noise2Noise,
    RunData,
    TrainOptions,
    TrainReport,
    Watch,
    needs_of_run,
    require_space,
)
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.training import train_session, training_device
from tgdonnx.graphs.tensor_specs import TARGET
from tgdonnx.keeping import kept, open_place, run_of
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import read_masked
from tgdonnx.masking import MaskOptions, MaskReport, mask_network
from tgdonnx.reporting.history import read_history
from tgdonnx.reporting.page import PageReport, Samples, require_page, write_page
from tgdonnx.reporting.pictures import Runners
from tgdonnx.reporting.proof import proof_of
from tgdonnx.selection import Strategy
from tgdonnx.verifying.verification import VerifyReport, verify_files

Array = NDArray[Any]


@dataclass(frozen=True)
class Round:
    """The reports of the stages of a round; ``verify`` compares with the file that the round started from.

    ``blend`` is the curve that its blend was chosen from; None if that was not asked for.
    """

    mask: MaskReport
    build: BuildReport
    train: TrainReport
    export: ExportReport
    verify: VerifyReport
    blend: Optional[BlendCurve] = None


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
        report: the page that was written, of the last round; None if none was asked for.
        blend: the curve that the blend was chosen from; None if that was not asked for.
    """

    mask: MaskReport
    build: BuildReport
    train: TrainReport
    export: ExportReport
    verify: VerifyReport
    earlier: tuple[Round, ...] = ()
    note: Optional[str] = None
    apply: Optional[ApplyReport] = None
    report: Optional[PageReport] = None
    blend: Optional[BlendCurve] = None


@dataclass(frozen=True)
class Results:
    """What `finetune` makes of a run: how far the tuned model goes, and what is written besides it.

    Attributes:
        report: an HTML page, with samples of the validation data, or else of the data.
        artifacts: a directory to keep the artifacts in. If it is None they are in ``STEM.run`` beside the tuned model, and
            deleted at the end; a failure or signal after the first checkpoint leaves them there, and says so. Those of several
            rounds are in ``round-1`` and so on.
        apply_to: an image, volume or stack that the tuned model is applied to, as by `tgdonnx.apply`.
        applied: where to write the result of that; beside the tuned model, as ``.applied`` and the suffix of ``apply_to``, if
            None.
        overwrite: whether all of these, and the tuned model, may exist.
        blend: how far the tuned model goes from what training started from (0) to what it came to (1), in every round; see
            `tgdonnx.export`. ``auto`` evaluates blends on the validation data and chooses one, see `tgdonnx.blending.curve`;
            then ``retain_limit`` of the training options does not stop the run, but is for the choice.
    """

    report: Optional[StrPath] = None
    artifacts: Optional[StrPath] = None
    apply_to: Optional[Union[StrPath, Array]] = None
    applied: Optional[StrPath] = None
    overwrite: bool = False
    blend: Union[float, Literal["auto"]] = 1.0

    def __post_init__(self) -> None:
        if self.blend != "auto":
            require_blend(self.blend)


def finetune(
    model: StrPath,
    data: Union[RunData, DataSource, Noise2Noise],
    output: StrPath,
    strategy: Strategy,
    training: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    building: BuildOptions = BuildOptions(),  # noqa: B008  # frozen
    masking: MaskOptions = MaskOptions(),  # noqa: B008  # frozen
    rounds: int = 1,
    results: Results = Results(),  # frozen
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> FinetuneReport:
    """Masks, builds, trains, exports and verifies. The arguments are those of the stages.

    Args:
        model: the vendor's file.
        data: what to train on, and what to look at besides; a source alone is what to train on. In later rounds images to
            agree on are those of the model that the round starts from.
        output: the tuned model to write.
        strategy: which filters to retrain.
        training: how to train.
        building: what training minimises, and how gradients are treated. Without a form it is ``thin`` where there is that
            form, which is not of gradient ``gate``.
        masking: what of the selected filters trains, and from where; the tolerance of a reinitialisation is of each round.
        rounds: how often to score, mask and train; each round starts from what the one before wrote.
        results: how far the tuned model goes, and what else to write.
        watch: who looks on, and what stops training; nothing is exported then.

    Raises:
        StoppedError: a signal stopped training.
        KeptError: what nobody foresaw, after training.
        TgdonnxError: as the stages do; after training, with the call that goes on.
    """
    output, run_data, file = Path(output), RunData.of(data), load_model(model)
    device = training_device(ENGINES[building.engine or default_engine()], training.device)
    masking = replace(masking, reinitialization=replace(masking.reinitialization, device=training.device))
    page, overwrite = results.report, results.overwrite
    apply_to, applied = results.apply_to, results.applied
    applied = _beside(output, apply_to) if applied is None and apply_to is not None else applied
    run = Path(results.artifacts) if results.artifacts is not None else run_of(output)
    require_outputs(
        [
            Output(output, Kind.MODEL),
            *optional(page),
            *(optional(applied) if apply_to is not None else ()),
            Output(run, Kind.ARTIFACTS),
            *optional(watch.tensorboard, Kind.ADDED_TO),
        ],
        [file, *run_data.read, masking.reinitialization.calibrate, apply_to],
        overwrite=overwrite,
    )
    require_data_writable(output, file, overwrite=overwrite)
    if page is not None:
        page = require_page(page, overwrite=overwrite)
    if results.blend == "auto" and not (run_data.validated or isinstance(run_data.data, Noise2Noise)):
        raise DataError(
            "blend auto chooses on validation data, and there is none", remedy="pass it, or say which blend"
        )
    if results.blend == "auto" and training.retain_limit is not None and run_data.retain is None:
        raise DataError(
            "a limit of retention needs data of the vendor's own task", remedy="pass retain, or leave the limit out"
        )
    if rounds < 1:
        raise SelectionError(f"expected at least 1 round, got {rounds}")
    reading = run_data.reading
    layouts = [layout for name, layout in reading.layouts.items() if name != TARGET]
    layout = layouts[0] if layouts else reading.layout
    scaled = bool(reading.scale is not None or reading.scales)
    if apply_to is not None:
        assert applied is not None
        require_applicable(
            model,
            apply_to,
            applied,
            layout=layout,
            scaled=scaled,
            output_name=building.output,
            overwrite=overwrite,
            device=training.device,
        )
    elif applied is not None:
        raise DataError(
            f"there is nothing to apply the tuned model to, so {applied} cannot be written", remedy="name the data"
        )
    place = open_place(output, results.artifacts, rounds=rounds, overwrite=overwrite)
    again = {"overwrite": True} if overwrite else {}

    def one_round(number: int, before: Network, work: Path, held: ExitStack) -> _Proved:
        scratch, directory = work / f"round-{number}", place.of_round(number)
        (scratch / "masked").mkdir(parents=True)
        (scratch / "tuned").mkdir()
        masked_model, tuned_model = scratch / "masked" / "masked.onnx", scratch / "tuned" / output.name
        masked = mask_network(before, masked_model, strategy, masking)
        if rounds > 1:
            directory.parent.mkdir(exist_ok=True)
        built, artifacts = build_masked(
            read_masked(masked_model), directory, building.in_cheapest_form(), overwrite=overwrite and place.given
        )
        # Held from here to the end, so that no other process builds or trains between our stages.
        held.enter_context(locked(directory))
        place.go_on_with(
            call("train", directory, options={"resume": True}),
            and_then=" and the same data and options, then `tgdonnx.export` it",
        )
        session = Session(directory, artifacts=artifacts, device=device)
        shown = Samples(Runners(artifacts.manifest, device), run_data.shown, reading)
        # What follows training, with the values that it starts from, so that nothing of it fails afterwards.
        size = try_export_artifacts(artifacts)
        if page is not None and shown.data is not None:
            shown.show(before.file, before.file, None)
        require_space([Need(output.parent, size, "tuned model"), *needs_of_run(session, training.steps)])
        looking = watch
        if watch.tensorboard is not None and rounds > 1:
            looking = replace(watch, tensorboard=Path(watch.tensorboard) / scratch.name)
        limit = None if results.blend == "auto" else training.retain_limit
        trained = train_session(session, run_data, replace(training, retain_limit=limit), watch=looking)
        if trained.stop.signal is not None:
            raise StoppedError(trained.stop.reason, trained.stop.signal)
        place.go_on_with(call("export", directory, options={"output": output, **again}))
        curve = blend_run(artifacts, run_data, training) if results.blend == "auto" else None
        blend = curve.chosen if curve is not None else float(results.blend)
        place.go_on_with(call("export", directory, options={"output": output, **_unless_whole(blend), **again}))
        tuned = export_artifacts(artifacts, blend=blend)
        exported = tuned.write(tuned_model)
        after = load_model(tuned_model)
        verified = verify_files(before, after, artifacts.masked)
        # What is deleted is not named.
        verified = replace(verified, evidence=_MASKED)
        built = built if place.given else replace(built, directory=None)
        reports = Round(masked, built, trained, replace(exported, output=None), verified, curve)
        return _Proved(reports, before, after, artifacts, tuned, shown)

    done: list[Round] = []
    last: Optional[_Proved] = None
    note = None
    with kept(place, signals=bool(watch.stop_on)), scratch_directory() as work, ExitStack() as held:
        vendor = before = open_network(file)
        for number in range(1, rounds + 1):
            try:
                last = one_round(number, before, work, held)
            except NothingLeftError as error:
                if not done:
                    raise
                note = f"there was no round {number}: {error}"
                break
            done.append(last.reports)
            if number < rounds:
                before = open_network(last.after)
        assert last is not None
        directory, only = last.artifacts.directory, len(done) == 1
        # Each round proved itself; now the last one is written where it shall be, and read back.
        exported = last.tuned.write(output)
        options = {"output": output, **_unless_whole(exported.blend), "overwrite": True}
        place.go_on_with(call("export", directory, options=options))
        require_same_model(output, last.after)
        proof = last.reports.verify if only else verify_files(vendor, load_model(output), None)
        application = None
        if apply_to is not None and applied is not None:
            # An array in memory has no command; the model is there.
            options = {"data": _named(apply_to), "output": applied, **again}
            place.go_on_with(call("apply", output, options=options))
            application = apply(
                output,
                apply_to,
                applied,
                layout=layout,
                artifacts=directory if scaled else None,
                output_name=building.output,
                overwrite=overwrite,
                device=training.device,
            )
        written = None
        if page is not None:
            place.go_on_with(call("report", directory, options={"output": page, **again}))
            names = (Path(model).name, output.name) if only else ("", "")
            checked = proof_of(
                last.artifacts,
                last.tuned,
                last.before.file,
                last.after,
                last.reports.verify,
                names=names,
                as_exported=True,
            )
            history, record = read_history(directory), read_record(directory)
            written = write_page(directory, Path(page), checked, history, record, last.shown)
    reports = last.reports
    return FinetuneReport(
        reports.mask,
        reports.build,
        reports.train,
        exported,
        proof,
        tuple(done[:-1]),
        note,
        application,
        written,
        reports.blend,
    )


@dataclass(frozen=True)
class _Proved:
    """A round that is proved, and what is open of it.

    Attributes:
        reports: of its stages.
        before: the model that it started from.
        after: the tuned file, as it was read back.
        artifacts: of the training.
        tuned: what was written to that file.
        shown: what its page shows samples of.
    """

    reports: Round
    before: Network
    after: ModelFile
    artifacts: Artifacts
    tuned: Tuned
    shown: Samples


_MASKED = "the masked model of this run"


def _unless_whole(blend: float) -> dict[str, float]:
    """Returns a blend as an option of `export`, where it is one."""
    return {} if blend == 1 else {"blend": blend}


def _named(data: Union[StrPath, Array]) -> str:
    return os.fspath(data) if isinstance(data, (str, os.PathLike)) else "DATA"


def _beside(output: Path, data: Union[StrPath, Array]) -> Path:
    """Returns where the result goes if that is not said."""
    suffix = ".npy"
    if isinstance(data, (str, os.PathLike)):
        name = os.fspath(data).lower()
        suffix = next((s for s in (".nii.gz", ".nii") if name.endswith(s)), suffix)
    return output.with_name(f"{output.stem}.applied{suffix}")
