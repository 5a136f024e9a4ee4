"""What killed processes leave is deleted by the next one that writes there, and what a live one writes is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import tgdonnx
from tests.support import models
from tests.support.trainer import make_artifacts
from tgdonnx.files.leftovers import temporary_beside
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.scratch import scratch_directory

ROOT = Path(__file__).parents[2]
LONG_AGO = time.time() - 3600
WRITER = """
import sys, time
from pathlib import Path
from tgdonnx.files.model_file import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    time.sleep(60)
"""
SCRATCH = """
import time
from tgdonnx.files.scratch import scratch_directory
with scratch_directory() as work:
    (work / "big").write_text("half")
    print(work.parent, flush=True)
    time.sleep(60)
"""


def started(code: str, *arguments: object, **environment: str) -> tuple[subprocess.Popen[str], Path]:
    """Starts a process that prints the path that it works at."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_file_of_a_killed_process_goes_and_those_of_live_ones_and_of_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "comparison.json"
    killed, dead = started(WRITER, target)
    end(killed)
    process, alive = started(WRITER, target)
    others = [tmp_path / name for name in (".comparison.json.notes.tmp", ".comparison.json.data.1.0123abcd.tmp")]
    for path in others:
        path.write_text("mine")
    try:
        write_bytes(target, b"young")
        assert dead.exists(), "nobody knows yet whether it is dead: it may belong to another container"
        for path in (dead, alive, *others):
            os.utime(path, (LONG_AGO, LONG_AGO))
        write_bytes(target, b"{}")
        assert (dead.exists(), alive.exists(), *(path.exists() for path in others)) == (False, True, True, True)
    finally:
        end(process)
    assert target.read_bytes() == b"{}"


def test_a_directory_that_a_killed_build_left_goes_with_the_next_one(tmp_path: Path) -> None:
    directory = make_artifacts(models.chain(0), tmp_path, tgdonnx.Phi(0.3))
    killed, _ = started("print('.')\nimport time\ntime.sleep(60)")
    end(killed)
    for suffix in ("tmp", "old"):
        left = temporary_beside(directory, suffix)
        left = left.with_name(left.name.replace(f".{os.getpid()}.", f".{killed.pid}."))
        left.mkdir()
        (left / "checkpoint").write_text("half")
        os.utime(left, (LONG_AGO, LONG_AGO))
    tgdonnx.build(tmp_path / "masked.onnx", directory, overwrite=True)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_temporary_directory_of_a_killed_process_goes_and_those_of_live_ones_and_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, dead = started(SCRATCH, TMPDIR=str(tmp_path))
    end(killed)
    process, alive = started(SCRATCH, TMPDIR=str(tmp_path))
    other = tmp_path / "tgdonnx-notes"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    try:
        assert dead.parent == alive.parent == tmp_path
        for path in (dead, alive, other):
            os.utime(path, (LONG_AGO, LONG_AGO))
        with scratch_directory() as work:
            assert work.is_dir()
            assert not list(work.iterdir())
        assert (dead.exists(), alive.exists(), other.exists()) == (False, True, True)
        assert (alive / "work" / "big").read_text() == "half"
    finally:
        end(process)
    assert not work.exists()


def test_without_a_place_for_temporary_files_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with (
        pytest.raises(tgdonnx.errors.OutputError, match=r"no place for temporary files .*; set TMPDIR"),
        scratch_directory(),
    ):
        pass
