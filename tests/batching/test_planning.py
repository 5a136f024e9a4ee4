"""What a batch finds of earlier calls: done, to be done again, or somebody else's."""

from __future__ import annotations

import importlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.batching.studies import TRAINING, jobs_in, save_study, states
from tgdonnx.batching import planning
from tgdonnx.errors import ArtifactsError, DataError, OutputError


def test_files_that_were_touched_or_moved_are_the_same_files(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    tgdonnx.batch(jobs, tmp_path / "out")
    os.utime(jobs[0].data, ns=(1, 1))  # type: ignore[call-overload]  # a path
    moved = tmp_path / "elsewhere.npz"
    Path(jobs[1].data).rename(moved)  # type: ignore[arg-type]  # a path
    (tmp_path / "out").rename(tmp_path / "moved")
    report = tgdonnx.batch([jobs[0], replace(jobs[1], data=moved)], tmp_path / "moved")
    assert [each.earlier for each in report.jobs] == [True, True]
    assert report.jobs[0].output == str(tmp_path / "moved" / "p1" / "tuned.onnx")


@pytest.mark.parametrize("what", ["options", "data", "selection"])
def test_a_job_that_was_done_otherwise_is_refused_and_done_again_where_that_is_said(what: str, tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    tgdonnx.batch(jobs, tmp_path / "out")
    before = (tmp_path / "out" / "p1" / "tuned.onnx").read_bytes()
    other = jobs_in(tmp_path, 2)
    if what == "options":
        other[0] = replace(other[0], training=replace(TRAINING, steps=4))
    elif what == "data":
        save_study(tmp_path / "p1.npz", 99)
    else:
        other[0] = replace(other[0], strategy=tgdonnx.LastLayers(1))
    said = {
        "options": "training.steps was 3, is 4",
        "data": "data has another content",
        "selection": "strategy.last was 2",
    }
    with pytest.raises(DataError, match=said[what]) as error:
        tgdonnx.batch(other, tmp_path / "out")
    assert error.value.also == ()
    assert (tmp_path / "out" / "p1" / "tuned.onnx").read_bytes() == before
    report = tgdonnx.batch(other, tmp_path / "out", overwrite=True)
    assert [each.earlier for each in report.jobs] == [False, True]
    assert list(report.replaced) == ["p1"]
    assert (tmp_path / "out" / "p1" / "tuned.onnx").read_bytes() != before


def test_a_tuned_file_that_is_gone_is_written_again_and_one_that_was_changed_is_not(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    tgdonnx.batch(jobs, tmp_path / "out")
    first, second = (tmp_path / "out" / job.name / "tuned.onnx" for job in jobs)
    was = first.read_bytes()
    first.unlink()
    report = tgdonnx.batch(jobs, tmp_path / "out")
    assert [each.earlier for each in report.jobs] == [False, True]
    assert first.read_bytes() == was
    second.write_bytes(b"mine")
    with pytest.raises(DataError, match="is not what was written there"):
        tgdonnx.batch(jobs, tmp_path / "out")
    assert second.read_bytes() == b"mine"
    tgdonnx.batch(jobs, tmp_path / "out", overwrite=True)
    assert tgdonnx.verify(jobs[1].model, second).ok


def test_a_record_for_machines_that_is_gone_is_written_again_and_one_that_was_changed_is_not(tmp_path: Path) -> None:
    results = tgdonnx.JobResults(card="card.json")
    jobs = jobs_in(tmp_path, 2, results=results)
    tgdonnx.batch(jobs, tmp_path / "out")
    first, second = (tmp_path / "out" / name / "card.json" for name in ("p1", "p2"))
    before = {**json.loads(first.read_bytes()), "created": None}
    first.unlink()
    report = tgdonnx.batch(jobs, tmp_path / "out")
    assert [each.earlier for each in report.jobs] == [False, True]
    assert {**json.loads(first.read_bytes()), "created": None} == before
    second.write_text("{}")
    with pytest.raises(DataError, match=r"'p2': .*card.json is not what was written there"):
        tgdonnx.batch(jobs, tmp_path / "out")


def test_a_job_whose_record_is_damaged_is_done_again_where_that_is_said(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 2)
    tgdonnx.batch(jobs, tmp_path / "out")
    tuned = (tmp_path / "out/p1/tuned.onnx").read_bytes()
    (tmp_path / "out/p1/job.json").write_text("{")
    with pytest.raises(DataError, match=r"'p1': .*job.json is damaged .*: pass `overwrite=True` to do the job again"):
        tgdonnx.batch(jobs, tmp_path / "out")
    report = tgdonnx.batch(jobs, tmp_path / "out", overwrite=True)
    assert [(each.state, each.earlier) for each in report.jobs] == [("done", False), ("done", True)]
    assert (tmp_path / "out/p1/tuned.onnx").read_bytes() == tuned
    assert all(each.earlier for each in tgdonnx.batch(jobs, tmp_path / "out").jobs)


@pytest.mark.parametrize("begun", [False, True])
def test_what_another_call_does_while_a_batch_is_planned_is_not_overwritten(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = jobs_in(tmp_path, 2)
    (job,) = jobs_in(tmp_path, 1, training=replace(TRAINING, steps=2))
    other, told = replace(job, name="p2"), []
    module = importlib.import_module("tgdonnx.batching.batch")  # its name is also that of a function
    if begun:
        tgdonnx.batch(first[:1], tmp_path / "out")

    def planned(*arguments: Any, **options: Any) -> Any:
        found = planning.plan(*arguments, **options)
        monkeypatch.setattr(module, "plan", planning.plan)
        with ThreadPoolExecutor(1) as pool:
            try:
                told.append(pool.submit(tgdonnx.batch, [other], tmp_path / "out").result())
            except ArtifactsError as error:
                told.append(str(error))
        return found

    monkeypatch.setattr(module, "plan", planned)
    if begun:
        assert all(each.state == "done" for each in tgdonnx.batch(first, tmp_path / "out").jobs)
        assert "is in use" in told[0]
    else:
        with pytest.raises(OutputError, match=r"another call has made .* meanwhile; make this call again"):
            tgdonnx.batch(first, tmp_path / "out")
        assert states(told[0]) == {"p2": "done"}
        assert not (tmp_path / "out/p1").exists()
    (again,) = tgdonnx.batch([first[1] if begun else other], tmp_path / "out").jobs
    assert again.earlier


def test_a_directory_in_which_only_a_lock_was_left_can_be_that_of_a_batch(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").touch()  # as by a full disk, before anything else was written
    assert tgdonnx.batch(jobs_in(tmp_path, 1), tmp_path / "out").jobs[0].state == "done"


def test_a_directory_of_a_job_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    tgdonnx.batch(jobs_in(tmp_path, 1), tmp_path / "out")
    (tmp_path / "out" / "p2").mkdir()
    (tmp_path / "out" / "p2" / "tuned.onnx").write_bytes(b"mine")
    with pytest.raises(
        DataError, match=r"'p2': .* holds other files than those of a job: pass `overwrite=True` to write among them"
    ):
        tgdonnx.batch(jobs_in(tmp_path, 2), tmp_path / "out")
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out" / "p2").iterdir()] == [("tuned.onnx", b"mine")]


def test_nothing_is_written_where_a_link_leads_that_has_the_name_of_a_job_or_of_what_jobs_share(tmp_path: Path) -> None:
    jobs, mine = jobs_in(tmp_path, 2), tmp_path / "mine"
    tgdonnx.batch(jobs[:1], tmp_path / "out")
    mine.mkdir()
    (mine / "tuned.onnx").write_bytes(b"mine")
    (tmp_path / "out" / "p2").symlink_to(mine)
    with pytest.raises(DataError, match=r"'p2': .*p2 is a link to .*mine; expected a directory of its own"):
        tgdonnx.batch(jobs, tmp_path / "out", overwrite=True)
    (tmp_path / "out" / "p2").unlink()
    (tmp_path / "out" / ".shared").rename(tmp_path / "shared")
    (tmp_path / "out" / ".shared").symlink_to(mine)
    with pytest.raises(OutputError, match=r"\.shared is a link to .*mine; expected a directory of its own"):
        tgdonnx.batch(jobs, tmp_path / "out", overwrite=True)
    assert [(path.name, path.read_bytes()) for path in mine.iterdir()] == [("tuned.onnx", b"mine")]
    (tmp_path / "out" / ".shared").unlink()
    (tmp_path / "out" / ".shared").write_bytes(b"damaged")
    with pytest.raises(OutputError, match=r"\.shared is a file; a batch keeps there what its jobs share; delete it"):
        tgdonnx.batch(jobs, tmp_path / "out", overwrite=True)
