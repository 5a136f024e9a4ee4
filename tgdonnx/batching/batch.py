"""Many fine-tunings: each job in a directory of its own, done once, gone on with where it was cut off, failing alone.

    DIR/NAME/       tuned.onnx, the run (tuned.run), results of applying it, and job.json; see `tgdonnx.batching.records`
    DIR/batch.json  what came of all of them; summary.csv and summary.html are the same to read
    DIR/.shared/    artifacts that several jobs start from; see `tgdonnx.batching.sharing`

A killed process leaves all of that as it was or as it shall be. That it outlives a power cut as well is seen to every ten
seconds and at the end, not job by job; what was damaged is known by its hash, and done again where that may be overwritten.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts.locking import announce, locked
from tgdonnx.artifacts.manifest import LOCK
from tgdonnx.batching.distributing import run_on_cluster
from tgdonnx.batching.jobs import BatchJob
from tgdonnx.batching.planning import BATCH, TABLE, Plan, plan, require_place
from tgdonnx.batching.records import JobResult, state_of
from tgdonnx.batching.running import SHARED, Runner
from tgdonnx.batching.summary import write_if_other, write_summary
from tgdonnx.cluster import Workers, open_cluster
from tgdonnx.data.problems import raise_first
from tgdonnx.errors import DataError, OutputError, StoppedError
from tgdonnx.files.access import writing
from tgdonnx.files.leftovers import temporary_beside
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.files.staging import copy_directory
from tgdonnx.files.typed import encode
from tgdonnx.finetuning import Watch
from tgdonnx.finetuning.interruption import Interrupted, interruptible
from tgdonnx.presenting import Presented
from tgdonnx.versions import own_version

FORMAT = 1


@dataclass(frozen=True, repr=False)
class BatchReport(Presented):
    """What came of a batch.

    Attributes:
        jobs: the results, in the order of the jobs.
        table: the results as CSV.
        page: the same as a page; None where what makes pages is not installed.
        replaced: why jobs that were done are done again, by name.
    """

    jobs: tuple[JobResult, ...]
    table: str
    page: Optional[str]
    replaced: dict[str, str]

    @property
    def failed(self) -> tuple[JobResult, ...]:
        """The jobs that failed."""
        return tuple(each for each in self.jobs if each.state == "failed")


def batch(
    jobs: Sequence[BatchJob],
    directory: StrPath,
    *,
    workers: Optional[Workers] = None,
    overwrite: bool = False,
    stop_on: Collection[signal.Signals] = (),
    on_result: Callable[[JobResult, int, int], None] = lambda *_: None,
) -> BatchReport:
    """Does many fine-tunings, each in a directory of its own; what an earlier call did is not done again.

    All that can be known to be wrong is said at once, before anything is written. A job that fails leaves the others alone.
    What is killed goes on with the same call, within a job too.

    Args:
        jobs: what to do; data and models lie on disk.
        directory: where all goes, a new directory or that of an earlier call.
        workers: how many processes of this machine, or the address of a scheduler of Dask, whose workers see the same files
            under the same paths; None for this process.
        overwrite: whether jobs that were done with other inputs or options are done again.
        stop_on: signals that save and stop, such as SIGINT.
        on_result: called after every job with its result, how many are done, and of how many.

    Raises:
        DataError: something is wrong with jobs; its ``also`` has the rest.
        StoppedError: a signal stopped it; the same call goes on.
        ClusterError: there are no such workers, or the scheduler is gone; the same call goes on.
        RuntimeMissingError: dask and distributed are not installed.
        TgdonnxError: the directory cannot be used, or another call is at work there.
    """
    jobs, directory = tuple(jobs), Path(directory)
    if not jobs:
        raise DataError("there is no job")
    require_place(directory)
    begun = (directory / BATCH).is_file()
    with scratch_directory() as work, ExitStack() as held:
        if (directory / LOCK).is_file():  # else nothing is written before all is known to be right
            held.enter_context(locked(directory))  # what is done is not to change under the plan
        planned, faults = plan(jobs, directory, Runner(directory, work, work / SHARED), overwrite=overwrite)
        raise_first(faults)
        with writing(directory):
            directory.mkdir(exist_ok=True)
        with locked(directory):
            if not begun and (directory / BATCH).is_file():
                raise OutputError(f"another call has made {directory} meanwhile", remedy="make this call again")
            if planned.todo and not (directory / BATCH).is_file():
                _write(directory, ())  # so that it is known what this is, whatever happens
            if planned.todo:
                announce(directory)
            _settle(work / SHARED, directory / SHARED)
            if workers is None or not planned.todo:
                done = _here(Runner(directory, work), planned.todo, stop_on)
            else:
                done = _elsewhere(workers, directory, planned.todo, stop_on)
            return _collected(jobs, directory, planned, done, on_result)


def faults_of(jobs: Sequence[BatchJob], directory: StrPath, *, overwrite: bool = False) -> list[DataError]:
    """Returns all that `batch` would refuse; nothing is written. The arguments are those of `batch`.

    Raises:
        TgdonnxError: the directory cannot be used.
    """
    require_place(Path(directory))
    with scratch_directory() as work:
        return plan(jobs, Path(directory), Runner(Path(directory), work, work / SHARED), overwrite=overwrite)[1]


def _settle(made: Path, place: Path) -> None:
    """Moves what was built in rehearsal to where it stays."""
    for entry in made.iterdir() if made.is_dir() else ():
        if entry.is_dir() and not (place / entry.name).exists():
            with writing(place):
                place.mkdir(exist_ok=True)
                temporary = temporary_beside(place / entry.name)
                try:
                    copy_directory(entry, temporary)
                    temporary.rename(place / entry.name)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)


def _here(runner: Runner, todo: Sequence[BatchJob], stop_on: Collection[signal.Signals]) -> Iterator[JobResult]:
    watch = Watch(stop_on=stop_on)
    try:
        for job in todo:
            yield runner.run(job, watch)
    finally:
        runner.waiting.sync()


def _elsewhere(
    workers: Workers, directory: Path, todo: Sequence[BatchJob], stop_on: Collection[signal.Signals]
) -> Iterator[JobResult]:
    with open_cluster(workers) as cluster, interruptible(stop_on) as check:
        yield from run_on_cluster(cluster, directory, todo, check)


def _collected(
    jobs: Sequence[BatchJob],
    directory: Path,
    planned: Plan,
    done: Iterator[JobResult],
    on_result: Callable[[JobResult, int, int], None],
) -> BatchReport:
    """Takes results as they come, and writes down what came of all when they are there, or the work is stopped."""
    results, stopped = dict(planned.done), None
    try:
        for result in done:
            results[result.name] = result.at(directory / result.name)
            on_result(results[result.name], len(results), len(jobs))
    except (StoppedError, Interrupted) as error:
        stopped = signal.Signals(error.signal)
    except KeyboardInterrupt:  # outside training
        stopped = signal.SIGINT
    except BaseException:
        _summarise(jobs, directory, results)
        raise
    ordered, page = _summarise(jobs, directory, results)
    if stopped is not None:
        left = sum(each.state in ("stopped", "open") for each in ordered)
        raise StoppedError(
            f"stopped by {stopped.name}: {left} of {len(jobs)} jobs are left, and the same call goes on; {directory / TABLE} "
            "has the others",
            int(stopped),
        )
    return BatchReport(ordered, str(directory / TABLE), page, planned.replaced)


def _summarise(
    jobs: Sequence[BatchJob], directory: Path, results: Mapping[str, JobResult]
) -> tuple[tuple[JobResult, ...], Optional[str]]:
    """Writes table, page and list; returns the results of all jobs, and the page."""
    left = (JobResult(job.name, state_of(directory / job.name)) for job in jobs if job.name not in results)
    others = {each.name: each for each in left}
    ordered = tuple(results.get(job.name) or others[job.name] for job in jobs)
    page = write_summary(directory, ordered)
    _write(directory, ordered)
    return ordered, page


def _write(directory: Path, results: Sequence[JobResult]) -> None:
    content = encode({"format": FORMAT, "tgdonnx": own_version(), "jobs": results}, indent=1)
    write_if_other(directory / BATCH, content)
