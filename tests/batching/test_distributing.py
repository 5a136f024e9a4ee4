"""How jobs are handed out: few calls for small jobs, a poisonous one alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.batching.studies import jobs_in
from tgdonnx.batching import BatchJob, JobResult, distributing
from tgdonnx.cluster import Cluster, Done
from tgdonnx.errors import ClusterError


def run_with(
    monkeypatch: pytest.MonkeyPatch, jobs: list[BatchJob], do: Callable[[Any], Any], workers: int
) -> tuple[list[JobResult], list[int]]:
    """Does jobs by calls in this process; returns results, and how many jobs every call had."""
    sizes: list[int] = []

    def run_calls(_cluster: Cluster, _function: Any, portions: Iterable[Any], **_: Any) -> Iterator[Done[Any]]:
        numbered = enumerate(portions)
        while (following := next(numbered, None)) is not None:  # as the room `cluster` takes them
            index, portion = following
            sizes.append(len(portion.jobs))
            try:
                yield Done(index, do(portion), None)
            except ClusterError as error:
                yield Done(index, None, error)

    class OfSize(Cluster):
        @property
        def size(self) -> int:
            return workers

    monkeypatch.setattr(distributing, "run_calls", run_calls)
    found = distributing.run_on_cluster(OfSize(None, "here", True), Path("out"), jobs, lambda: None)
    return list(found), sizes


def done_in(seconds: float) -> Callable[[Any], Any]:
    return lambda portion: tuple(JobResult(job.name, "done", seconds=seconds) for job in portion.jobs)


def many(directory: Path, count: int) -> list[BatchJob]:
    (job,) = jobs_in(directory, 1)
    return [replace(job, name=f"p{number}") for number in range(count)]


def test_small_jobs_go_many_at_a_time_and_the_last_ones_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = many(tmp_path, 1000)
    results, sizes = run_with(monkeypatch, jobs, done_in(0.05), workers=2)
    assert [each.name for each in results] == [job.name for job in jobs]
    assert sizes[0] == 1
    assert max(sizes) == 20, "a call takes a second"
    assert sizes[-1] == 1
    assert len(sizes) < 100


def test_the_more_workers_there_are_the_longer_is_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sizes = run_with(monkeypatch, many(tmp_path, 50_000), done_in(0.05), workers=100)
    assert max(sizes) == 200, "ten seconds, so that all together are ten calls a second"


def test_jobs_that_take_long_go_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sizes = run_with(monkeypatch, many(tmp_path, 7), done_in(30.0), workers=2)
    assert sizes == [1] * 7


def test_only_the_job_fails_that_ends_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = many(tmp_path, 60)

    def dies(portion: Any) -> Any:
        if any(job.name == "p33" for job in portion.jobs):
            raise ClusterError("every worker that ran it died, 3 in turn")
        return done_in(0.05)(portion)

    results, sizes = run_with(monkeypatch, jobs, dies, workers=1)
    assert sorted(each.name for each in results) == sorted(job.name for job in jobs)
    assert [(each.name, each.error) for each in results if each.state == "failed"] == [
        ("p33", "every worker that ran it died, 3 in turn")
    ]
    assert max(sizes) > 1


def test_what_was_handed_out_is_not_kept(tmp_path: Path) -> None:
    portions = distributing._Portions(tmp_path, deque(many(tmp_path, 3)), lambda: 1)
    assert [len(portion.jobs) for portion in portions] == [1, 1, 1]
    portions.alone.append(many(tmp_path, 1)[0])
    assert len(next(portions).jobs) == 1, "more may come after the end"
    with pytest.raises(StopIteration):
        next(portions)


def test_a_cluster_that_is_none_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="expected at least 1 worker, got 0"):
        tgdonnx.batch(jobs_in(tmp_path, 1), tmp_path / "out", workers=0)
    assert not (tmp_path / "out" / "p1").exists()
