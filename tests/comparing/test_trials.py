"""Selections run on workers, and by several seeds: the same as one after the other, whatever happens to a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data
from tests.support.clusters import cluster_of_threads
from tgdonnx.cluster import Cluster
from tgdonnx.comparing import CompareReport, Entry, Measured, Trials, on_workers
from tgdonnx.comparing.running import run_candidate
from tgdonnx.errors import ClusterError, SelectionError, StoppedError
from tgdonnx.finetuning import Progress, Watch
from tgdonnx.runtime.options import limit_threads

RUN = replace(OPTIONS, epochs=2, metrics=("rmse",), seed=5)
SELECT = ("none", "phi:0.3", "last:2")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sessions have one thread, as those of workers have here: the last bits of a result may depend on it."""
    limit_threads(1)
    yield
    limit_threads(0)


@pytest.fixture
def inside(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are threads of this process."""

    def opened(_: object) -> AbstractContextManager[Cluster]:
        return cluster_of_threads(tmp_path_factory.mktemp("dask"))

    monkeypatch.setattr("tgdonnx.comparing.comparison.open_cluster", opened)


def compare(vendor: Path, folder: Path, trials: Trials, watch: Watch = Watch(), options: Any = RUN) -> CompareReport:  # noqa: B008
    return tgdonnx.compare(vendor, tgdonnx.RunData(data(), HELD_OUT), folder, trials, options, watch=watch)


def facts(entries: Any) -> list[tuple[Any, ...]]:
    return [(e.name, e.seed, e.selection, e.curve, e.best, e.changed, e.steps, e.rho, e.blend) for e in entries]


def tuned(report: CompareReport) -> list[bytes]:
    return [Path(entry.directory, "tuned.onnx").read_bytes() for entry in report.entries if entry.directory]


def losses(report: CompareReport) -> list[Any]:
    return [
        [
            json.loads(line).get("loss")
            for line in Path(entry.directory, "artifacts", "log.jsonl").read_text().splitlines()
        ]
        for entry in report.entries
        if entry.directory
    ]


def test_on_workers_all_is_as_one_after_the_other_bit_for_bit(vendor: Path, tmp_path: Path, inside: None) -> None:
    expected = compare(vendor, tmp_path / "serial", Trials(SELECT))
    told: list[Progress] = []
    remarks: list[str] = []
    watch = Watch(on_progress=told.append, on_remark=remarks.append)
    found = compare(vendor, tmp_path / "workers", Trials(SELECT, workers=2), watch)
    assert facts(found.entries) == facts(expected.entries)
    assert tuned(found) == tuned(expected)
    assert losses(found) == losses(expected)
    assert (found.recommended, found.reason, found.notes) == (expected.recommended, expected.reason, expected.notes)
    assert {progress.steps for progress in told} == {12}  # of both runs together
    assert sorted(text.partition(":")[0] for text in remarks if "are over)" in text) == ["last", "phi"]
    assert facts(compare(vendor, tmp_path / "workers", Trials(SELECT)).entries) == facts(expected.entries)


def test_a_run_that_kills_its_workers_is_said_and_the_others_stay(
    vendor: Path, tmp_path: Path, inside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(call: Any) -> Entry:
        if call.plan.candidate.name == "last:2":
            raise ClusterError("every worker that ran it died, 3 in turn")
        return run_candidate(call.plan, Watch())

    monkeypatch.setattr(on_workers, "_run", run)
    report = compare(vendor, tmp_path / "c", Trials(SELECT, workers=2))
    assert [entry.name for entry in report.entries] == ["none", "phi:0.3"]
    assert report.notes == ("last:2 failed: every worker that ran it died, 3 in turn",)
    monkeypatch.undo()
    again = compare(vendor, tmp_path / "c", Trials(SELECT))
    assert [entry.name for entry in again.entries] == list(SELECT)
    assert facts(again.entries)[:2] == facts(report.entries)


def test_a_signal_stops_the_workers_and_the_same_call_goes_on(vendor: Path, tmp_path: Path, inside: None) -> None:
    long = replace(RUN, epochs=300)

    def stop(_: Progress) -> None:
        signal.raise_signal(signal.SIGTERM)

    watch = Watch(stop_on=(signal.SIGTERM,), on_progress=stop)
    with pytest.raises(StoppedError, match=r"^stopped by SIGTERM; .*c keeps what was done: the same command goes on$"):
        compare(vendor, tmp_path / "c", Trials(("last:2",), workers=2), watch, long)
    state = [
        json.loads(line) for line in (tmp_path / "c" / "last-2" / "artifacts" / "log.jsonl").read_text().splitlines()
    ]
    assert state[-1]["event"] == "stop"
    assert 0 < state[-1]["step"] < 900


def test_several_seeds_are_runs_of_their_own_with_mean_and_spread(vendor: Path, tmp_path: Path) -> None:
    report = compare(vendor, tmp_path / "three", Trials(("none", "all"), seeds=3))
    assert [(entry.name, entry.seed) for entry in report.entries] == [("none", 5), ("all", 5), ("all", 6), ("all", 7)]
    for entry in report.entries[1:]:
        alone = compare(
            vendor, tmp_path / f"seed {entry.seed}", Trials(("all",)), options=replace(RUN, seed=entry.seed)
        )
        assert facts(alone.entries) == facts([entry])
        assert tuned(alone) == [Path(entry.directory, "tuned.onnx").read_bytes()]
    runs = [entry.best for entry in report.entries[1:]]
    assert len({point.loss for point in runs}) == 3
    vendors, found = report.spreads
    assert (vendors.name, vendors.seeds, vendors.loss.deviation) == ("none", (5,), None)
    assert (found.name, found.seeds) == ("all", (5, 6, 7))
    assert found.loss.mean == pytest.approx(np.mean([point.loss for point in runs]), rel=1e-12)
    assert found.loss.deviation == pytest.approx(np.std([point.loss for point in runs], ddof=1), rel=1e-9)
    assert found.old == Measured(None, None)
    lowest = min(runs, key=lambda point: point.loss)
    assert report.recommended == "all"
    artifacts = f"{report.entries[1 + runs.index(lowest)].directory}/artifacts"
    assert report.call == f"tgdonnx.export({artifacts!r}, output='tuned.onnx')"
    assert report.reason.startswith("lowest mean validation loss (")
    assert "3 seeds; the model is that of seed " in report.reason
    one = compare(vendor, tmp_path / "three", Trials(("none", "all")))
    assert facts(one.entries) == facts(report.entries[:2])
    assert one.spreads == ()


@pytest.mark.parametrize("seeds", [0, -1, 1001])
def test_other_numbers_of_seeds_are_refused(seeds: int) -> None:
    with pytest.raises(SelectionError, match=rf"^expected seeds between 1 and 1000, got {seeds}$"):
        Trials(seeds=seeds)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_the_result_is_the_same(vendor: Path, tmp_path: Path) -> None:
    options = replace(RUN, epochs=20)  # of 3 steps
    expected = compare(vendor, tmp_path / "serial", Trials(SELECT), options=options)
    killed: list[int] = []

    def kill(_: Progress) -> None:
        if not killed:
            (killed_one, *_) = children(os.getpid())
            killed.append(killed_one)
            os.kill(killed_one, signal.SIGKILL)

    found = compare(vendor, tmp_path / "workers", Trials(SELECT, workers=2), Watch(on_progress=kill), options)
    assert len(killed) == 1
    assert facts(found.entries) == facts(expected.entries)
    assert tuned(found) == tuned(expected)
    assert found.notes == expected.notes


def children(pid: int) -> list[int]:
    """Returns the worker processes that this process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if parent == pid and b"spawn_main" in command:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_on_a_scheduler_that_runs_all_is_the_same_and_its_end_is_said(
    vendor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the commands of the guide, with workers in another directory than ours."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for name, arrays in (("new.npz", data()), ("held.npz", HELD_OUT)):
        np.savez(tmp_path / name, **arrays)
    given = tgdonnx.RunData("new.npz", "held.npz")
    expected = tgdonnx.compare("vendor.onnx", given, "serial", SELECT, RUN)
    file = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(Path(tgdonnx.__file__).parents[1])}
    dask = [sys.executable, "-m", "dask"]
    options = ["--scheduler-file", str(file), "--no-dashboard"]
    started: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *options], **started)
    command = [*dask, "worker", *options, "--nworkers", "2", "--nthreads", "1"]
    worker = subprocess.Popen(command, **started, cwd=tmp_path / "elsewhere")
    try:
        end = time.monotonic() + 120
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.1)
        found = tgdonnx.compare("vendor.onnx", given, "workers", Trials(SELECT, workers=str(file)), RUN)
        assert facts(found.entries) == facts(expected.entries)
        assert tuned(found) == tuned(expected)
        assert [*(tmp_path / "elsewhere").glob("*.onnx")] == []

        def end_it(_: Progress) -> None:
            scheduler.kill()

        long, watch = replace(RUN, epochs=2000), Watch(on_progress=end_it)
        with pytest.raises(ClusterError, match=r"is gone; cut keeps what was done: the same command goes on$"):
            tgdonnx.compare("vendor.onnx", given, "cut", Trials(("all",), workers=str(file)), long, watch=watch)
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(60)
