"""What a batch will do, and all that is wrong with it, before anything is written.

Looked at is what can be known without training: names and where they lead, files, models, selections and builds, devices,
criteria, and what an earlier call left. Whether data fits its model is found by its job, which fails alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

from tgdonnx.artifacts.manifest import LOCK, LOCK_OWNER
from tgdonnx.batching.identity import Hashes, files_of, inputs_of
from tgdonnx.batching.jobs import BatchJob, ByDropTest
from tgdonnx.batching.records import RECORD, TUNED, JobResult, read_job_record
from tgdonnx.batching.running import SHARED, Runner, changed_since, is_whole
from tgdonnx.engines import ENGINES
from tgdonnx.errors import ArtifactsError, DataError, OutputError, TgdonnxError
from tgdonnx.files.nearby import meant_by
from tgdonnx.files.outputs import require_no_link
from tgdonnx.files.paths import why_unwritable
from tgdonnx.finetuning import Noise2Noise, steps_kept
from tgdonnx.finetuning.acceptance import read_acceptance
from tgdonnx.finetuning.noise2noise import require_pairable
from tgdonnx.finetuning.opening import require_consistent
from tgdonnx.finetuning.training import training_device
from tgdonnx.keeping import run_of
from tgdonnx.layers import Network, open_network
from tgdonnx.reporting.figures import require_matplotlib
from tgdonnx.reporting.rendering import environment

BATCH, TABLE, PAGE = "batch.json", "summary.csv", "summary.html"
_NAME = re.compile(r"\w[\w .+@#,()-]*")
_RESERVED = {BATCH, TABLE, PAGE, SHARED, "con", "prn", "aux", "nul"}
_OWN = {RECORD, TUNED, f"{TUNED}.data", "tuned.run"}
_MOST_ROWS = 8  # that a fault names


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        done: results of an earlier call that still hold, by name.
        todo: the other jobs, in order.
        replaced: why jobs that were done are done again, by name.
    """

    done: dict[str, JobResult]
    todo: tuple[BatchJob, ...]
    replaced: dict[str, str]


def require_place(directory: Path) -> None:
    """Checks that a directory can be that of a batch.

    Raises:
        OutputError: it holds something else, or cannot be made.
    """
    shared = directory / SHARED
    require_no_link(shared)
    if shared.exists() and not shared.is_dir():
        raise OutputError(f"{shared} is a file; a batch keeps there what its jobs share", remedy="delete it")
    if reason := why_unwritable(directory / TABLE):
        raise OutputError(f"{directory} can be no directory: {reason}", remedy="choose another name")
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file; a batch needs a directory", remedy="choose another name")
    if directory.is_dir():
        if (
            any(path.name not in (LOCK, LOCK_OWNER) for path in directory.iterdir())
            and not (directory / BATCH).is_file()
        ):
            raise OutputError(
                f"{directory} holds other files than those of a batch", remedy="name a new or an empty directory"
            )
    elif not directory.parent.is_dir():
        raise OutputError(f"the directory {directory.parent} does not exist", remedy="create it or choose another")
    if not os.access(directory if directory.is_dir() else directory.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{directory} is not writable", remedy="change its permissions or choose another")


def plan(
    jobs: Sequence[BatchJob], directory: Path, rehearsing: Runner, *, overwrite: bool
) -> tuple[Plan, list[DataError]]:
    """Looks at jobs; nothing is written but into a temporary place.

    Args:
        jobs: all of them.
        directory: of the batch.
        rehearsing: builds what jobs share, in a temporary place.
        overwrite: whether what was done otherwise may be done again.

    Returns:
        What there is to do, and all that is wrong.
    """
    found: dict[str, list[BatchJob]] = {}
    hashes, networks = Hashes(), dict[str, Network]()
    done, todo, replaced, built = dict[str, JobResult](), list[BatchJob](), dict[str, str](), set[str]()
    _add(found, _same_names(jobs))
    for job in jobs:
        problems = [*_wrong_name(job), *_unreadable(job), *_wrong_places(job, directory), *_wrong_results(job)]
        if not problems:
            state = _earlier(job, directory, hashes)
            if isinstance(state, JobResult):
                done[job.name] = state
                continue
            if state and overwrite:
                replaced[job.name] = state
            problems = [*([state] if state and not overwrite else ()), *_unusable(job, rehearsing, networks, built)]
        todo.append(job)
        _add(found, [(problem, job) for problem in problems])
    faults = [DataError(f"{_rows(those)}: {problem}") for problem, those in found.items()]
    return Plan(done, tuple(todo), replaced), faults


def _add(found: dict[str, list[BatchJob]], problems: Sequence[tuple[str, BatchJob]]) -> None:
    for problem, job in problems:
        found.setdefault(problem, []).append(job)


def _rows(jobs: Sequence[BatchJob]) -> str:
    told = [f"{job.row}, {job.name!r}" if job.row else f"job {job.name!r}" for job in jobs[:_MOST_ROWS]]
    more = f" and {len(jobs) - _MOST_ROWS:,} more" if len(jobs) > _MOST_ROWS else ""
    return "; ".join(told) + more


def _same_names(jobs: Sequence[BatchJob]) -> list[tuple[str, BatchJob]]:
    """Names that lead to one directory, also where upper and lower case are the same."""
    seen: dict[str, BatchJob] = {}
    wrong = []
    for job in jobs:
        first = seen.setdefault(job.name.casefold(), job)
        if first is not job:
            where = f" in {first.row}" if first.row else ""
            wrong.append((f"the name is taken by {first.name!r}{where}; a name is there once", job))
    return wrong


def _wrong_name(job: BatchJob) -> Iterator[str]:
    name = job.name
    if not name:
        yield "the name is missing; it names the directory of the job"
    elif not _NAME.fullmatch(name) or name != name.strip() or name.endswith("."):
        yield (
            "the name is to be that of a directory: letters, digits and . _ - + @ # , ( ) between, the first a letter or "
            "digit, no path"
        )
    elif name.casefold() in _RESERVED:
        yield "the name is taken by the batch itself; choose another"
    elif reason := why_unwritable(Path(name) / TUNED):
        yield f"the name can be no directory: {reason}"


def _unreadable(job: BatchJob) -> Iterator[str]:
    for role, source in job.reads.items():
        if not isinstance(source, (str, os.PathLike)):
            yield f"{role} lies in memory; a batch goes by files: name its path"
            continue
        path = Path(source)
        try:
            if path.exists() or files_of(path):
                continue
        except TgdonnxError:
            pass
        except (OSError, ValueError) as error:
            yield f"{role} {path} cannot be read: {error}"
            continue
        yield f"{role} {path} does not exist{meant_by(path)}"


def _wrong_places(job: BatchJob, directory: Path) -> Iterator[str]:
    """What is read and what is written are apart, and what is written is the batch's own."""
    try:
        require_no_link(directory / job.name)
    except OutputError as error:
        yield str(error)
    written = Path(os.path.realpath(directory))
    for role, source in job.reads.items():
        if not isinstance(source, (str, os.PathLike)):
            continue
        read = Path(os.path.realpath(source))
        if written == read or written in read.parents:
            yield f"{role} {source} is in {directory}, which the batch writes; keep it elsewhere"
        elif read in written.parents and read.is_dir():
            yield f"{directory}, which the batch writes, is in {role} {source}; choose another directory"


def _wrong_results(job: BatchJob) -> Iterator[str]:
    results = job.results
    taken = {name.casefold() for name in _OWN}
    for option, name in (("applied", results.applied), ("report", results.report), ("card", results.card)):
        if name is None:
            continue
        if Path(name).name != name or name in (".", "..") or why_unwritable(name):
            yield f"{option} {name!r} is to be the name of a file, which goes into the directory of the job"
        elif name.casefold() in taken:
            yield f"{option} {name!r} is the name of another file of the job; choose another"
        taken.add(name.casefold())
    if results.applied is not None and results.apply is None:
        yield "applied names a result, and there is nothing to apply the tuned model to; name it with apply"
    if job.rounds < 1:
        yield f"expected at least 1 round, got {job.rounds}"
    try:
        require_consistent(job.run_data, job.training)
        if isinstance(job.run_data.data, Noise2Noise):
            require_pairable(job.run_data.reading)
    except DataError as error:
        yield str(error)


def _unusable(job: BatchJob, rehearsing: Runner, networks: dict[str, Network], built: set[str]) -> Iterator[str]:
    """What opening a model, selecting and building say; once for all jobs of the same."""
    try:
        training_device(ENGINES[job.building.engine], job.training.device)
        if job.results.acceptance is not None:
            read_acceptance(Path(os.fspath(job.results.acceptance)))
        if job.results.report is not None:
            environment()
            require_matplotlib()
        if isinstance(job.strategy, ByDropTest):
            return  # its filters are known when it runs
        asked = rehearsing.asked(job)
        if asked.file.sha256 not in networks:
            networks.clear()
            networks[asked.file.sha256] = open_network(asked.file)
        key = rehearsing.shared.key_of(asked)
        if key is not None and key not in built and not (rehearsing.directory / SHARED / key).is_dir():
            rehearsing.shared.make(asked, networks[asked.file.sha256])
            built.add(key)
    except TgdonnxError as error:
        yield str(error)


def _earlier(job: BatchJob, directory: Path, hashes: Hashes) -> Union[JobResult, str]:
    """Returns the result of an earlier call if it holds, or what is other now; empty where there is just work to do."""
    place = directory / job.name
    try:
        record = read_job_record(place)
    except ArtifactsError as error:
        return f"{error.problem}: pass `overwrite=True` to do the job again, or delete its directory"
    if record is None:
        return (
            f"{place} holds other files than those of a job: pass `overwrite=True` to write among them, or move them away"
            if place.is_dir() and any(place.iterdir())
            else ""
        )
    for files in (*record.inputs.values(), record.written):
        hashes.remember(files)
    try:
        changes = record.changes(job.options(), inputs_of(job.reads, hashes))
    except TgdonnxError as error:
        return str(error)
    if changes:
        steps = _steps(place)
        if record.state == "done" or steps:
            kept = "was done" if record.state == "done" else f"has {steps} steps"
            said = "; ".join(changes[:3]) + (f"; and {len(changes) - 3} more" if len(changes) > 3 else "")
            return f"it {kept} otherwise ({said}): pass `overwrite=True` to do it again, or give it another name"
        return ""
    if not is_whole(record, place):
        return ""
    changed = changed_since(record, place, hashes)
    if changed is not None:
        return f"{changed} is not what was written there: pass `overwrite=True` to write it again, or move it away"
    assert record.result is not None  # of a job that is done
    return replace(record.result.at(place), earlier=True)


def _steps(place: Path) -> int:
    run = run_of(place / TUNED)
    found = [path for path in (run, *run.glob("round-*")) if (path / "manifest.json").is_file()]
    try:
        return max((steps_kept(path) for path in found), default=0)
    except TgdonnxError:
        return 0
