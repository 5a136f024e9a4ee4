"""A batch: the same as its jobs one by one, done once, failing alone, going on where it was cut off."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.batching.studies import TRAINING, by_name, files_in, jobs_in, save_study, states
from tests.support import models
from tests.support.environments import ROOT
from tests.support.external_models import externalise
from tgdonnx.batching import running
from tgdonnx.errors import ArtifactsError, StoppedError
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import loop

VALIDATED = {"validation loss", "validation psnr"}


def test_a_tuned_file_is_that_of_finetune_by_itself_bit_for_bit(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 3)
    jobs[2] = replace(jobs[2], strategy=tgdonnx.Phi(0.3), masking=tgdonnx.MaskOptions(mode="readers"))
    report = tgdonnx.batch(jobs, tmp_path / "out")
    for job in jobs:
        alone = tmp_path / f"{job.name}.alone.onnx"
        assert not isinstance(job.strategy, tgdonnx.ByDropTest)
        tgdonnx.finetune(job.model, job.data, alone, job.strategy, job.training, masking=job.masking)
        assert (tmp_path / "out" / job.name / "tuned.onnx").read_bytes() == alone.read_bytes()
    assert {each.proof for each in report.jobs} == {"recomputed"}
    assert all(tgdonnx.verify(jobs[0].model, each.output).ok for each in report.jobs if each.output)


def test_a_second_call_does_nothing_for_jobs_that_are_done(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    first = tgdonnx.batch(jobs, tmp_path / "out")
    before = files_in(tmp_path / "out")
    second = tgdonnx.batch(jobs, tmp_path / "out")
    assert [each.earlier for each in second.jobs] == [True] * 3
    assert [replace(each, earlier=False) for each in second.jobs] == list(first.jobs)
    after = files_in(tmp_path / "out")
    assert {path: stat for path, stat in after.items() if before.get(path) != stat} == {
        path: after[path] for path in after if path.endswith("batch.json")
    }, "only the list says that they were done before"
    tgdonnx.batch(jobs, tmp_path / "out")
    assert files_in(tmp_path / "out") == after


def test_a_job_that_fails_leaves_the_others_alone_and_is_tried_again(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    save_study(tmp_path / "p2.npz", 2, channels=5)
    report = tgdonnx.batch(jobs, tmp_path / "out")
    assert states(report) == {"p1": "done", "p2": "failed", "p3": "done"}
    assert "expected 'x' to be float32 [?, 3, ?, ?]" in by_name(report)["p2"].error
    assert not (tmp_path / "out" / "p2" / "tuned.onnx").exists()
    save_study(tmp_path / "p2.npz", 2)
    again = tgdonnx.batch(jobs, tmp_path / "out")
    assert states(again) == dict.fromkeys(("p1", "p2", "p3"), "done")
    assert [each.earlier for each in again.jobs] == [True, False, True]


def test_an_error_that_nobody_foresaw_is_of_its_job_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune = running.finetune_asked

    def falls_over(asked: Any, *more: Any) -> Any:
        if "p1" in str(asked.output):
            raise KeyError("of ours")
        return tune(asked, *more)

    monkeypatch.setattr(running, "finetune_asked", falls_over)
    report = tgdonnx.batch(jobs_in(tmp_path, 2), tmp_path / "out")
    assert states(report) == {"p1": "failed", "p2": "done"}
    assert by_name(report)["p1"].error == "this is a fault of tgdonnx, not yours: KeyError: 'of ours'"


def test_the_tables_say_what_came_of_every_job(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path)
    jobs[0] = replace(jobs[0], data=tgdonnx.RunData(tmp_path / "p1.npz", validation=tmp_path / "p3.npz"))
    save_study(tmp_path / "p2.npz", 2, channels=5)
    report = tgdonnx.batch(jobs, tmp_path / "out")
    with Path(report.table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["p1", "p2", "p3"]
    assert [row["state"] for row in rows] == ["done", "failed", "done"]
    assert rows[1]["error"] == by_name(report)["p2"].error
    assert rows[0]["output"] == "p1/tuned.onnx"
    assert set(report.jobs[0].metrics) == set(report.jobs[0].before) == VALIDATED
    assert float(rows[0]["validation psnr"]) == pytest.approx(report.jobs[0].metrics["validation psnr"], rel=1e-8)
    assert set(report.jobs[2].metrics) == {"loss"}
    listed = json.loads((tmp_path / "out" / "batch.json").read_text())
    assert [(each["name"], each["state"]) for each in listed["jobs"]] == list(states(report).items())
    page = (tmp_path / "out" / "summary.html").read_text()
    assert 'href="p1/tuned.onnx"' in page
    assert "found float32 [4, 5, 7, 8]" in page


def test_results_of_applying_and_pages_go_into_the_directory_of_the_job(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((1, 3, 9, 8), np.float32))
    results = tgdonnx.JobResults(apply=tmp_path / "whole.npy", report="page.html", keep=False)
    report = tgdonnx.batch(jobs_in(tmp_path, 1, results=results), tmp_path / "out")
    (job,) = report.jobs
    assert (job.state, job.error) == ("done", "")
    assert sorted(path.name for path in (tmp_path / "out" / "p1").iterdir()) == [
        *("job.json", "page.html", "tuned.applied.npy", "tuned.onnx"),
    ]
    assert np.load(str(job.applied)).shape == (1, 3, 9, 8)
    assert tgdonnx.batch(jobs_in(tmp_path, 1, results=results), tmp_path / "out").jobs[0].earlier


def test_the_drop_test_is_done_once_for_all_jobs_of_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Any] = []
    sweep = running.sweep

    def counted(*given: Any, **options: Any) -> Any:
        swept.append(given)
        return sweep(*given, **options)

    monkeypatch.setattr(running, "sweep", counted)
    save_study(tmp_path / "images.npz", 7)
    test = tgdonnx.ByDropTest(tmp_path / "images.npz", tolerance=10.0)
    report = tgdonnx.batch(jobs_in(tmp_path, 2, strategy=test), tmp_path / "out")
    assert set(states(report).values()) == {"done"}, report.failed
    assert len(swept) == 1


def test_ctrl_c_saves_the_job_at_hand_and_the_same_call_goes_on(tmp_path: Path) -> None:
    long = replace(TRAINING, steps=None, epochs=4)
    jobs = jobs_in(tmp_path, 3, training=long)

    def press(result: tgdonnx.JobResult, _done: int, _total: int) -> None:
        if result.name == "p1":
            raise KeyboardInterrupt

    with pytest.raises(StoppedError, match="2 of 3 jobs are left"):
        tgdonnx.batch(jobs, tmp_path / "out", on_result=press)
    report = tgdonnx.batch(jobs, tmp_path / "out")
    assert [each.earlier for each in report.jobs] == [True, False, False]


def test_a_stop_within_a_job_goes_on_there_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_in(tmp_path, 3, training=replace(TRAINING, steps=6))
    whole = tgdonnx.batch(jobs, tmp_path / "whole")
    step, seen = loop._step, []

    def stopping(*given: Any) -> Any:
        seen.append(1)
        if len(seen) == 6 + 4:  # in the second job
            os.kill(os.getpid(), signal.SIGINT)
        return step(*given)

    monkeypatch.setattr(loop, "_step", stopping)
    with pytest.raises(
        StoppedError, match="stopped by SIGINT: 2 of 3 jobs are left, and the same call goes on"
    ) as error:
        tgdonnx.batch(jobs, tmp_path / "out", stop_on=[signal.SIGINT])
    assert error.value.signal == signal.SIGINT
    listed = json.loads((tmp_path / "out" / "batch.json").read_text())["jobs"]
    assert [each["state"] for each in listed] == ["done", "stopped", "open"]
    monkeypatch.setattr(loop, "_step", step)
    report = tgdonnx.batch(jobs, tmp_path / "out")
    assert [each.earlier for each in report.jobs] == [True, False, False]
    log = (tmp_path / "out" / "p2" / "tuned.run" / "log.jsonl").read_text()
    assert '"rule":"signal"' in log or json.loads((tmp_path / "out/p2/tuned.run/run.json").read_text())["resumed"]
    for each, other in zip(report.jobs, whole.jobs):
        assert Path(str(each.output)).read_bytes() == Path(str(other.output)).read_bytes()


@pytest.mark.slow
def test_jobs_on_workers_come_to_the_same_files_and_fail_alone(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 5)
    save_study(tmp_path / "p2.npz", 2, channels=5)
    shown: list[tuple[str, int, int]] = []
    report = tgdonnx.batch(
        jobs, tmp_path / "out", workers=2, on_result=lambda each, done, of: shown.append((each.name, done, of))
    )
    here = tgdonnx.batch(jobs, tmp_path / "here")
    assert states(report) == states(here) == {"p1": "done", "p2": "failed", "p3": "done", "p4": "done", "p5": "done"}
    for each, other in zip(report.jobs, here.jobs):
        assert (each.metrics, each.error) == (other.metrics, other.error)
        assert each.output is None or Path(each.output).read_bytes() == Path(str(other.output)).read_bytes()
    assert sorted(shown) == sorted(shown, key=lambda each: each[0])
    assert [done for _, done, _ in shown] == [1, 2, 3, 4, 5]
    assert len(list((tmp_path / "out" / ".shared").glob("*/mask.json"))) == 1
    assert [each.earlier for each in tgdonnx.batch(jobs, tmp_path / "out", workers=2).jobs] == [
        *(True, False, True, True, True),
    ]


CALL = """
import sys
import tgdonnx
from pathlib import Path
from tests.batching.studies import jobs_in
directory = Path(sys.argv[1])
def told(result, done, total): print(result.name, flush=True)
print("begin", flush=True)
jobs = jobs_in(directory, 4, training=tgdonnx.TrainOptions(steps=40, batch=2, checkpoint_every=0.0))
print(tgdonnx.batch(jobs, directory / "out", on_result=told).failed, flush=True)
"""


@pytest.mark.slow
def test_a_batch_that_is_killed_at_any_time_comes_to_the_same_by_the_same_call(tmp_path: Path) -> None:
    for place in ("killed", "whole"):
        (tmp_path / place).mkdir()
    command = [sys.executable, "-c", CALL]
    killed = 0
    for delay in (0.3, 0.05, 0.4, 0.15, 0.6):
        process = subprocess.Popen([*command, str(tmp_path / "killed")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        time.sleep(delay)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert killed >= 3
    for place in ("killed", "whole"):
        done = subprocess.run(
            [*command, str(tmp_path / place)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
        )
        assert done.stdout.endswith("()\n"), done.stdout
    for name in ("p1", "p2", "p3", "p4"):
        tuned = [tmp_path / place / "out" / name / "tuned.onnx" for place in ("killed", "whole")]
        assert tuned[0].read_bytes() == tuned[1].read_bytes()
        assert sorted(p.name for p in tuned[0].parent.iterdir() if not p.name.startswith(".")) == [
            *("job.json", "tuned.onnx", "tuned.run"),
        ]


def test_nothing_is_left_in_the_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    tgdonnx.batch(jobs_in(tmp_path, 1), tmp_path / "out")
    assert list((tmp_path / "scratch").iterdir()) == []
    with scratch_directory() as work:
        assert work.is_relative_to(tmp_path / "scratch")


def test_a_model_in_two_files_is_tuned_like_any_other(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    (tmp_path / "outside").mkdir()
    model = models.save(externalise(models.dncnn(0), tmp_path / "outside"), tmp_path / "outside" / "vendor.onnx")
    jobs = [replace(job, model=model) for job in jobs]
    report = tgdonnx.batch(jobs, tmp_path / "out")
    assert set(states(report).values()) == {"done"}, report.failed
    assert all(tgdonnx.verify(model, str(each.output)).ok for each in report.jobs)
    assert all(each.earlier for each in tgdonnx.batch(jobs, tmp_path / "out").jobs)


def test_another_call_is_told_who_is_at_work(tmp_path: Path) -> None:
    told: list[str] = []

    def other(*_: object) -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(ArtifactsError) as found:
            pool.submit(tgdonnx.batch, jobs, tmp_path / "out").result()
        told.append(str(found.value))

    jobs = jobs_in(tmp_path, 1)
    tgdonnx.batch(jobs, tmp_path / "out", on_result=other)
    assert f"out is in use by process {os.getpid()} since " in told[0]
