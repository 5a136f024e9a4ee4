"""One job, in this process: done, gone on with, or failed; what it needs and others need too stays open for the next."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from tgdonnx.artifacts.manifest import MANIFEST
from tgdonnx.batching.identity import Hashes, ReadFile, files_of, inputs_of
from tgdonnx.batching.jobs import BatchJob, ByDropTest
from tgdonnx.batching.records import (
    FORMAT,
    TUNED,
    JobRecord,
    JobResult,
    read_job_record,
    write_job_record,
)
from tgdonnx.batching.sharing import SharedArtifacts
from tgdonnx.errors import ArtifactsError, DataError, OutputError, StoppedError, TgdonnxError
from tgdonnx.files.access import writing
from tgdonnx.files.durability import Waiting, synced_together
from tgdonnx.files.model_file import ModelFile, load_model
from tgdonnx.finetuning import Epoch, TrainReport, Watch
from tgdonnx.keeping import run_of
from tgdonnx.pipeline.asked import Asked, Results, asked_of
from tgdonnx.pipeline.reports import FinetuneReport
from tgdonnx.pipeline.stages import finetune_asked
from tgdonnx.runtime.kept_open import OpenModels, keeping_open
from tgdonnx.selection import Strategy
from tgdonnx.sweeping import sweep
from tgdonnx.versions import own_version

SHARED = ".shared"
_OPEN_MODELS = 8  # those of two builds: step or gradients and update, eval, and what predicts


class Runner:
    """Runs the jobs of a batch, one after the other.

    Attributes:
        directory: of the batch.
        hashes: of the files that jobs read.
        shared: what jobs of the same model, selection and options start from.
        waiting: what was written and is to be put on the disk, at the latest at the end.
    """

    def __init__(self, directory: Path, work: Path, shared: Optional[Path] = None) -> None:
        """Opens nothing yet.

        Args:
            directory: of the batch.
            work: a directory for what is not needed afterwards.
            shared: where artifacts are that jobs share; below ``directory`` if None.
        """
        self.directory, self._work, self.hashes = directory, work, Hashes()
        self.shared = SharedArtifacts(directory / SHARED if shared is None else shared, self.hashes)
        self.waiting, self._open = Waiting(), OpenModels(_OPEN_MODELS)
        self._model: Optional[tuple[str, ModelFile]] = None
        self._dropped: dict[tuple[object, ...], Strategy] = {}

    def run(self, job: BatchJob, watch: Watch = Watch()) -> JobResult:  # noqa: B008  # frozen
        """Does a job, or goes on with it where an earlier call was cut off; a failure is a result, too.

        Args:
            job: the job, of which an earlier result may be replaced.
            watch: who looks on, and what stops it.

        Raises:
            StoppedError: a signal stopped it.
            KeyboardInterrupt: so did Ctrl-C, outside training.
        """
        begin, trained = time.monotonic(), 0.0
        try:
            with keeping_open(self._open), synced_together(self.waiting):
                result = self._done(job, watch)
            trained = result.seconds
        except StoppedError:
            raise
        except TgdonnxError as error:
            result = JobResult(job.name, "failed", _sentence(error))
        except MemoryError:
            result = JobResult(
                job.name, "failed", "there is not enough memory for this: take a smaller batch, or patches"
            )
        except Exception as error:
            fault = f"this is a fault of tgdonnx, not yours: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            result = JobResult(job.name, "failed", fault)
        overhead, remade = max(0.0, time.monotonic() - begin - trained), "; ".join(self.shared.remade)
        self.shared.remade.clear()
        result = replace(result, overhead=overhead, remark=remade)
        with suppress(OutputError), synced_together(self.waiting):  # the result says it, written down or not
            self._note(job, result)
        return result

    def asked(self, job: BatchJob, watch: Watch = Watch(), *, resume: bool = False) -> Asked:  # noqa: B008  # frozen
        """Returns the arguments of `tgdonnx.finetune` for a job.

        Raises:
            TgdonnxError: the model is not usable, or the drop test finds nothing.
        """
        place, wanted = self.directory / job.name, job.results
        results = Results(
            report=None if wanted.report is None else place / wanted.report,
            apply=wanted.apply,
            applied=None if wanted.applied is None else place / wanted.applied,
            overwrite=True,
            blend=wanted.blend,
            acceptance=wanted.acceptance,
            card=None if wanted.card is None else place / wanted.card,
            keep=wanted.keep,
            resume=resume,
        )
        model = self._loaded(Path(os.fspath(job.model)))
        return asked_of(
            model,
            job.run_data,
            place / TUNED,
            self._strategy(job, model),
            job.training,
            building=job.building,
            masking=job.masking,
            rounds=job.rounds,
            results=results,
            watch=watch,
        )

    def _done(self, job: BatchJob, watch: Watch) -> JobResult:
        place = self.directory / job.name
        try:
            before = read_job_record(place)
        except ArtifactsError:  # `plan` let it pass, so it may be overwritten
            before = None
        if before is not None:
            for files in before.inputs.values():
                self.hashes.remember(files)
        inputs, options = inputs_of(job.reads, self.hashes), job.options()
        with writing(place):
            place.mkdir(exist_ok=True)
        same = before is not None and not before.changes(options, inputs)
        if same and before is not None and is_whole(before, place) and not changed_since(before, place, self.hashes):
            assert before.result is not None  # of a job that is done
            return before.result.at(place)  # another worker did it, and died before it could say so
        resume = same and _has_run(place, job)
        write_job_record(place, JobRecord(FORMAT, "running", options, inputs, own_version()))
        try:
            return self._tuned(job, watch, resume=resume)
        except ArtifactsError:
            if not resume:
                raise
        return self._tuned(job, watch, resume=False)  # what was left is damaged, as by a power cut

    def _tuned(self, job: BatchJob, watch: Watch, *, resume: bool) -> JobResult:
        asked = self.asked(job, watch, resume=resume)
        with tempfile.TemporaryDirectory(dir=self._work) as work:
            report = finetune_asked(asked, self.shared, Path(work))
        return _result(job, self.directory / job.name, report)

    def _note(self, job: BatchJob, result: JobResult) -> None:
        """Writes down what came of a job; of one whose record cannot be read nothing."""
        place = self.directory / job.name
        try:
            record = read_job_record(place)
        except ArtifactsError:
            return
        if record is not None:
            done = result.state == "done"
            written = written_by(result, place, self.hashes) if done else ()
            write_job_record(place, replace(record, state="done" if done else "failed", result=result, written=written))

    def _loaded(self, path: Path) -> ModelFile:
        """Returns the model of a file; the last one stays open."""
        (known,) = inputs_of({"": path}, self.hashes)[""]
        if self._model is None or self._model[0] != f"{known.path} {known.sha256}":
            self._model = (f"{known.path} {known.sha256}", load_model(path))
        return self._model[1]

    def _strategy(self, job: BatchJob, model: ModelFile) -> Optional[Strategy]:
        test = job.strategy
        if not isinstance(test, ByDropTest):
            return test
        reading, output, device = job.run_data.reading, job.building.shown_output, job.training.device
        read = inputs_of({"data": test.data}, self.hashes)["data"]
        key = (model.sha256, tuple(each.sha256 for each in read), test, repr(reading), output, device)
        if key not in self._dropped:
            report = sweep(
                model,
                test.data,
                tolerance=test.tolerance,
                output=output,
                scoring=test.scoring,
                reading=reading,
                device=device,
            )
            self._dropped[key] = report.strategy()
        return self._dropped[key]


def is_whole(record: JobRecord, place: Path) -> bool:
    """Whether a job is done, and every file that it wrote is there, in its directory."""
    files = [place / each.name for each in record.written]
    return record.state == "done" and all(path.is_file() and path.stat().st_size for path in files)


def changed_since(record: JobRecord, place: Path, hashes: Hashes) -> Optional[Path]:
    """Returns a file of a job, which are all there, that is not what the job wrote; None if there is none.

    Raises:
        DataError: a file cannot be read.
    """
    found = (place / each.name for each in record.written if hashes.of(place / each.name, "").sha256 != each.sha256)
    return next(found, None)


def _has_run(place: Path, job: BatchJob) -> bool:
    """Whether there is a run that can be gone on with."""
    run = run_of(place / TUNED)
    return ((run / "round-1" if job.rounds > 1 else run) / MANIFEST).is_file()


def _sentence(error: TgdonnxError) -> str:
    """Returns what is wrong, without what is said of how to go on: here that is the same call."""
    told = error.problem + (f"; {error.remedy}" if error.remedy else "") if error.problem else str(error)
    also = error.also if isinstance(error, DataError) else ()
    return " Also: ".join([told, *map(str, also)])


def written_by(result: JobResult, place: Path, hashes: Hashes) -> tuple[ReadFile, ...]:
    """Returns the files that a job wrote, as they are now; those that are not there are left out.

    Args:
        result: what came of it.
        place: the directory of the job.
        hashes: those that are known.
    """
    written = ((result.output, True), (result.applied, False), (result.report, False), (result.card, False))
    named = [(Path(each), model) for each, model in written if each]
    found = (files_of(path, model=model) for path, model in named if path.exists())
    return tuple(hashes.of(path, path.relative_to(place).as_posix()) for files in found for _, path in files)


def _result(job: BatchJob, place: Path, report: FinetuneReport) -> JobResult:
    train, best = report.train, report.train.best
    epochs = train.epochs
    kept = next((each for each in epochs if each.step == best.step), epochs[-1])
    return JobResult(
        job.name,
        "done",
        metrics=_measured(kept, train, last=True),
        before=_measured(epochs[0], train, last=False),
        steps=train.steps,
        seconds=train.seconds,
        output=str(place / TUNED),
        proof=report.verify.proof,
        accepted=None if report.acceptance is None else report.acceptance.passed,
        applied=None if report.apply is None else str(report.apply.output),
        report=None if report.report is None else report.report.output,
        card=None if job.results.card is None else str(place / job.results.card),
    )


def _measured(epoch: Epoch, train: TrainReport, *, last: bool) -> dict[str, Optional[float]]:
    """Returns what was measured at an epoch; where nothing is validated, the training loss of the first or last."""
    found: dict[str, Union[float, None]] = {}
    if epoch.validation is not None:
        found["validation loss"] = epoch.validation
    else:
        losses = [each.loss for each in train.epochs if each.loss is not None]
        found["loss"] = (losses[-1] if last else losses[0]) if losses else None
    found.update({f"validation {metric}": value for metric, value in epoch.metrics.items()})
    found.update({f"retain {metric}": value for metric, value in epoch.retain.items()})
    return found
