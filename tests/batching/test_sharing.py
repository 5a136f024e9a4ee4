"""What jobs share is made once, is nobody's to change, and is made again where it was damaged."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.batching.studies import TRAINING, jobs_in, states
from tgdonnx.batching import running, sharing
from tgdonnx.errors import OutputError
from tgdonnx.files.staging import copy_directory


def test_artifacts_are_built_once_for_all_jobs_of_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    build = sharing.build_masked

    def counted(*given: Any, **options: Any) -> Any:
        built.append(given)
        return build(*given, **options)

    monkeypatch.setattr(sharing, "build_masked", counted)
    jobs = jobs_in(tmp_path, 3)
    jobs += [replace(jobs[0], name="other", building=tgdonnx.BuildOptions(loss="l1"))]
    assert set(states(tgdonnx.batch(jobs, tmp_path / "out")).values()) == {"done"}
    assert len(built) == 2
    assert len(list((tmp_path / "out" / ".shared").glob("*/mask.json"))) == 2
    own = [tmp_path / "out" / job.name / "tuned.run" / "state.safetensors" for job in jobs[:3]]
    assert len({path.read_bytes() for path in own}) == 3, "states are not shared"


def contents(directory: Path) -> dict[str, str]:
    """The SHA-256 of every file that jobs share."""
    files = (path for path in (directory / ".shared").glob("*/**/*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def entry(directory: Path) -> Path:
    (found,) = (path for path in (directory / ".shared").iterdir() if path.is_dir())
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two jobs of the same, in ``both``, and the first of them in ``one``."""
    directory = tmp_path_factory.mktemp("done")
    jobs = jobs_in(directory, 2)
    tgdonnx.batch(jobs, directory / "both")
    tgdonnx.batch(jobs[:1], directory / "one")
    return directory


class Swept:
    """A drop test that finds what the other jobs select, once the batch runs."""

    def strategy(self) -> tgdonnx.Strategy:
        return tgdonnx.LastLayers(2)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit in the masks": (lambda e: flipped(e / "mask.json"), "mask.json is not what was written there"),
    "half of the masks": (lambda e: os.truncate(e / "mask.json", 20), "mask.json is not what was written there"),
    "no graph of a step": (
        lambda e: (e / "artifacts" / "step.onnx").unlink(),
        "step.onnx is not what was written there",
    ),
    "no sums": (lambda e: (e / "sums.json").unlink(), "sums.json"),
    "sums that are none": (lambda e: (e / "sums.json").write_text("{"), "sums.json is damaged"),
    "a file in its place": (lambda e: (shutil.rmtree(e), e.touch()), "is no directory"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_damaged_of_what_jobs_share_is_made_again_and_the_job_that_needs_it_says_so(
    what: str, done: Path, tmp_path: Path
) -> None:
    damage, told = DAMAGED[what]
    shutil.copytree(done / "one", tmp_path / "out")
    before = contents(tmp_path / "out")
    damage(entry(tmp_path / "out"))
    report = tgdonnx.batch(jobs_in(done, 2), tmp_path / "out")
    assert [(each.state, each.earlier) for each in report.jobs] == [("done", True), ("done", False)]
    assert re.search(rf"{told}.*; it was made again", report.jobs[1].remark), report.jobs[1].remark
    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out/p2/tuned.onnx").read_bytes() == (done / "both/p2/tuned.onnx").read_bytes()


def test_what_a_program_writes_into_a_file_of_a_job_in_place_does_not_get_into_another(
    done: Path, tmp_path: Path
) -> None:
    jobs = jobs_in(done, 2)
    tgdonnx.batch(jobs[:1], tmp_path / "out")
    step = tmp_path / "out/p1/tuned.run/step.onnx"
    assert step.samefile(entry(tmp_path / "out") / "artifacts" / "step.onnx")
    flipped(step)  # keeps the file that both names are of
    report = tgdonnx.batch(jobs, tmp_path / "out")
    assert report.jobs[1].remark.endswith("step.onnx is not what was written there; it was made again")
    assert (tmp_path / "out/p2/tuned.onnx").read_bytes() == (done / "both/p2/tuned.onnx").read_bytes()


def test_where_there_are_no_locks_what_another_process_made_meanwhile_is_taken(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, made = sharing.build_masked, entry(done / "both")

    def slowly(*given: Any, **options: Any) -> Any:
        if (tmp_path / "out" / ".shared").is_dir():
            shutil.copytree(made, tmp_path / "out" / ".shared" / made.name)
        return build(*given, **options)

    monkeypatch.setattr(sharing, "build_masked", slowly)
    shutil.copytree(done / "one", tmp_path / "out")
    shutil.rmtree(entry(tmp_path / "out"))
    jobs = jobs_in(done, 2, strategy=tgdonnx.ByDropTest(done / "p1.npz", tolerance=10.0))
    monkeypatch.setattr(running, "sweep", lambda *_, **__: Swept())
    report = tgdonnx.batch(jobs[1:], tmp_path / "out")
    assert [each.state for each in report.jobs] == ["done"], report.jobs[0].error
    assert contents(tmp_path / "out") == contents(done / "both")


def test_nothing_that_works_on_a_run_writes_into_what_jobs_share(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, 1)
    tgdonnx.batch(jobs, tmp_path / "out")
    before, run = contents(tmp_path / "out"), tmp_path / "out/p1/tuned.run"
    shared = [path for path in run.iterdir() if path.stat().st_nlink > 1]
    assert {"step.onnx", "manifest.json", "masked.onnx"} <= {path.name for path in shared}
    longer = replace(TRAINING, steps=5)
    tgdonnx.train(run, jobs[0].data, longer, resume=True)  # type: ignore[arg-type]  # a path
    tgdonnx.export(run, tmp_path / "longer.onnx")
    tgdonnx.blend(run, tmp_path / "p1.npz")
    tgdonnx.report(run, tmp_path / "page.html")
    tgdonnx.batch([replace(jobs[0], training=longer)], tmp_path / "out", overwrite=True)
    tgdonnx.build(run / "masked.onnx", tmp_path / "again")
    shutil.copy(run / "masked.onnx", tmp_path / "masked.onnx")
    tgdonnx.build(tmp_path / "masked.onnx", run, overwrite=True)
    assert contents(tmp_path / "out") == before


def test_a_full_disk_is_told_in_a_sentence_and_nothing_half_copied_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(source: Path, target: Path) -> None:
        if source.name == "mask.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        shutil.copyfile(source, target)

    monkeypatch.setattr(sys.modules["tgdonnx.batching.batch"], "copy_directory", partial(copy_directory, copy=copy))
    shared = tmp_path / "out" / ".shared"
    with pytest.raises(OutputError, match=rf"^{re.escape(str(shared))} cannot be written: No space left on device$"):
        tgdonnx.batch(jobs_in(tmp_path), tmp_path / "out")
    assert list(shared.iterdir()) == []
    monkeypatch.undo()
    assert set(states(tgdonnx.batch(jobs_in(tmp_path), tmp_path / "out")).values()) == {"done"}
