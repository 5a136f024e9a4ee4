"""The runs of a comparison on the workers of a cluster: what is sent there, and how far all of them are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Union

from tgdonnx.cluster import Cluster, is_cancelled, note, run_calls, versions
from tgdonnx.comparing.choosing import Entry
from tgdonnx.comparing.running import Plan, run_candidate
from tgdonnx.data import DataSource
from tgdonnx.errors import ClusterError
from tgdonnx.finetuning import Noise2Noise, Progress, RunData, Watch

_TELL_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class _Call:
    """A run, as it is sent to a worker, with the versions on which results depend, as they are here."""

    plan: Plan
    versions: Mapping[str, str]


def _run(call: _Call) -> Entry:
    """Does on a worker what `run_candidate` does.

    Raises:
        ClusterError: the worker, which has joined later, has other versions.
        TgdonnxError: as `run_candidate`.
    """
    if call.versions != versions():
        raise ClusterError(
            f"a worker that joined later has {_listed(versions())}, here there is {_listed(call.versions)}",
            remedy="install the same versions on all machines",
        )
    told = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told
        if progress.step == progress.steps or time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            note(progress)

    return run_candidate(call.plan, Watch(on_progress=tell, on_remark=note, is_wanted=lambda: not is_cancelled()))


def _listed(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _anywhere(plan: Plan) -> Plan:
    """Returns a plan whose paths mean the same in any directory."""
    data = plan.data
    assert not isinstance(data.data, Noise2Noise)  # which is not compared
    data = RunData(
        _absolute(data.data),
        None if data.validation is None else _absolute(data.validation),
        None if data.retain is None else _absolute(data.retain),
        None if data.agree is None else _absolute(data.agree),
        data.reading,
    )
    return replace(plan, model=plan.model.absolute(), directory=plan.directory.absolute(), data=data)


def _absolute(source: DataSource) -> DataSource:
    return Path(source).absolute() if isinstance(source, (str, os.PathLike)) else source


def run_on_workers(
    cluster: Cluster, plans: Sequence[Plan], steps: int, watch: Watch, check: Callable[[], None]
) -> Iterator[tuple[int, Union[Entry, ClusterError]]]:
    """Yields the number of each run as it is over, and what came of it; an error if every worker that ran it died.

    Args:
        cluster: where.
        plans: the runs.
        steps: of every run.
        watch: told how far all runs together are, and of each that is over.
        check: called a few times a second; what it raises stops all runs, which keep what they have.

    Raises:
        TgdonnxError: as `run_candidate`.
    """
    overall = _Overall(len(plans), steps, watch)
    here = versions()
    calls = [_Call(plan if cluster.local else _anywhere(plan), here) for plan in plans]

    def heard(index: int, value: Any) -> None:
        if isinstance(value, Progress):
            overall.heard(index, value)
        else:
            watch.on_remark(value)

    for done in run_calls(cluster, _run, calls, on_note=heard, check=check):
        overall.over(done.index)
        if done.error is not None and not isinstance(done.error, ClusterError):
            raise done.error
        result = done.value if done.error is None else done.error
        assert result is not None
        title, over = plans[done.index].candidate.title, f"{overall.count} of {len(plans)} are over"
        watch.on_remark(f"{title}: {_said(result)} ({over})")
        yield done.index, result


def _said(result: Union[Entry, ClusterError]) -> str:
    if isinstance(result, ClusterError):
        return str(result)
    return f"validation loss {result.best.loss:.4g} at step {result.best.step}"


class _Overall:
    """How far all runs are together, as the progress of one."""

    def __init__(self, runs: int, steps: int, watch: Watch) -> None:
        self._steps, self._all, self._watch = steps, runs * steps, watch
        self._latest: dict[int, Progress] = {}
        self._over: set[int] = set()
        self._begin = time.monotonic()

    @property
    def count(self) -> int:
        """How many runs are over."""
        return len(self._over)

    def over(self, index: int) -> None:
        """Counts a run as done."""
        self._over.add(index)
        self._latest.pop(index, None)

    def heard(self, index: int, progress: Progress) -> None:
        """Tells where all runs are, after one has told where it is."""
        if index in self._over:
            return
        first = not self._latest
        self._latest[index] = progress
        done = len(self._over) * self._steps + sum(each.step for each in self._latest.values())
        rate = sum(each.images_per_second for each in self._latest.values())
        seconds = time.monotonic() - self._begin
        left = 0.0 if first else (self._all - done) * seconds / max(1, done)
        self._watch.on_progress(
            replace(progress, step=done, steps=self._all, images_per_second=rate, seconds_left=left)
        )
