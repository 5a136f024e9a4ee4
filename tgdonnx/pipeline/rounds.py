"""Rounds: mask, build, train, export and prove, each from what the one before wrote."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts import Artifacts, BuildReport
from tgdonnx.artifacts.locking import locked
from tgdonnx.artifacts.manifest import MANIFEST
from tgdonnx.blending.curve import blend_run
from tgdonnx.calls import call
from tgdonnx.errors import NothingLeftError, StoppedError
from tgdonnx.evaluating.running import Runners
from tgdonnx.evaluating.shown import ShownData
from tgdonnx.exporting import Tuned, export_artifacts, try_export_artifacts
from tgdonnx.files.model_file import ModelFile, load_model
from tgdonnx.finetuning import Need, TrainReport, Watch, needs_of_run, require_space
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.training import train_session
from tgdonnx.layers import Network, open_network
from tgdonnx.masking import MaskReport
from tgdonnx.pipeline.checks import Job
from tgdonnx.pipeline.making import MadeAnew, Making
from tgdonnx.pipeline.reports import Round
from tgdonnx.pipeline.resuming import open_again
from tgdonnx.reporting.study import rehearse
from tgdonnx.verifying.verification import verify_files

_MASKED = "the masked model of this run"


@dataclass(frozen=True)
class Proved:
    """A round that is proved, and what is open of it.

    Attributes:
        reports: of its stages.
        before: the model that it started from.
        after: the tuned file, as it was read back.
        artifacts: of the training.
        tuned: what was written to that file.
        shown: the data that both files are compared on.
        runners: run them.
    """

    reports: Round
    before: Network
    after: ModelFile
    artifacts: Artifacts
    tuned: Tuned
    shown: ShownData
    runners: Runners


@dataclass(frozen=True)
class Rounds:
    """What came of all rounds.

    Attributes:
        vendor: the model that the first started from.
        done: the reports of each, at least one.
        last: the last of them.
        note: why there were fewer than asked for; None if there were not.
    """

    vendor: Network
    done: tuple[Round, ...]
    last: Proved
    note: Optional[str]


def run_rounds(job: Job, work: Path, held: ExitStack, making: Making) -> Rounds:
    """Runs as many rounds as were asked for, or as there is something left to train.

    Args:
        job: what is asked for.
        work: a directory for what is deleted at the end.
        held: takes the locks of the artifacts, which are let go at the end.
        making: gives the masked model and the artifacts of the first round; those of later ones are of a model of their own.

    Raises:
        NothingLeftError: already the first round has nothing to train.
        StoppedError: a signal stopped training.
        TgdonnxError: as the stages do.
    """
    vendor = open_network(job.asked.file)
    last = _run_round(job, 1, vendor, work, held, making)
    done, note = [last.reports], None
    for number in range(2, job.asked.rounds + 1):
        try:
            last = _run_round(job, number, open_network(last.after), work, held, MadeAnew())
        except NothingLeftError as error:
            note = f"there was no round {number}: {error}"
            break
        done.append(last.reports)
    return Rounds(vendor, tuple(done), last, note)


def _run_round(job: Job, number: int, before: Network, work: Path, held: ExitStack, making: Making) -> Proved:
    scratch = work / f"round-{number}"
    masked, built, artifacts = _mask_and_build(job, number, before, scratch, held, making)
    session = Session(artifacts.directory, artifacts=artifacts, device=job.device)
    shown = ShownData.of_run(job.asked.data, job.asked.training.seed)
    runners = Runners(artifacts.manifest, job.device)
    rehearse_ending(job, before, session, artifacts, (shown, runners))
    trained = _train(job, number, session)
    curve = blend_run(artifacts, job.asked.data, job.asked.training) if job.asked.blend == "auto" else None
    blend = curve.chosen if curve is not None else float(job.asked.blend)
    job.go_on_with_export(artifacts.directory, blend)
    tuned = export_artifacts(artifacts, blend=blend)
    exported = tuned.write(scratch / "tuned" / job.asked.output.name)
    after = load_model(scratch / "tuned" / job.asked.output.name)
    # What is deleted is not named.
    verified = replace(verify_files(before, after, artifacts.masked), evidence=_MASKED)
    reports = Round(masked, built, trained, replace(exported, output=None), verified, curve)
    return Proved(reports, before, after, artifacts, tuned, shown, runners)


def _mask_and_build(
    job: Job, number: int, before: Network, scratch: Path, held: ExitStack, making: Making
) -> tuple[MaskReport, BuildReport, Artifacts]:
    asked, directory = job.asked, job.place.of_round(number)
    (scratch / "tuned").mkdir(parents=True)
    masked, model = making.masked(asked, before, scratch / "masked")
    if asked.rounds > 1:
        directory.parent.mkdir(exist_ok=True)
    building = asked.building.in_cheapest_form()
    if job.place.resumed and (directory / MANIFEST).is_file():
        held.enter_context(locked(directory))
        built, artifacts = open_again(directory, model, building)
    else:
        overwrite = asked.results.overwrite and job.place.given
        built, artifacts = making.built(model, directory, building, overwrite=overwrite)
        # Held from here to the end, so that no other process builds or trains between our stages.
        held.enter_context(locked(directory))
    job.place.go_on_with(
        call("train", directory, options={"resume": True}),
        f" and the same data and options, then `tgdonnx.export` it{job.same_call(job.others)}",
    )
    return masked, built if job.place.lasting else replace(built, directory=None), artifacts


def rehearse_ending(
    job: Job, before: Network, session: Session, artifacts: Artifacts, compared: tuple[ShownData, Runners]
) -> None:
    """Does what follows training with the values that it starts from, so that nothing of it fails afterwards.

    Raises:
        TgdonnxError: it would.
    """
    size = try_export_artifacts(artifacts)
    if job.looks_at_data:
        rehearse(*compared, before.file, artifacts.directory)
    size += 0 if job.vendor is None else len(job.asked.file.data)
    output = Need(job.asked.output.parent, size, "tuned model")
    require_space([output, *needs_of_run(session, job.asked.training.steps)])


def _train(job: Job, number: int, session: Session) -> TrainReport:
    training = job.asked.training
    if job.asked.blend == "auto":
        training = replace(training, retain_limit=None)  # it is for the choice of the blend
    begun = session.run_state is not None or read_record(session.directory) is not None
    trained = train_session(
        session,
        job.asked.data,
        training,
        resume=begun,
        watch=_watch(job, number),
        acceptance=job.acceptance,
        remarks=job.asked.choice if number == 1 else (),
    )
    if trained.stop.signal is not None:
        raise StoppedError(trained.stop.reason, trained.stop.signal)
    job.go_on_with_export(session.directory, 1.0)
    return trained


def _watch(job: Job, number: int) -> Watch:
    watch = job.asked.watch
    if watch.tensorboard is None or job.asked.rounds == 1:
        return watch
    return replace(watch, tensorboard=Path(watch.tensorboard) / f"round-{number}")
