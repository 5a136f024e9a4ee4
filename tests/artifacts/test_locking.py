"""One process at a time works in an artifacts directory, and one that was killed is in nobody's way."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tgdonnx
from tests.finetuning.runs import OPTIONS, data
from tests.support import models
from tests.support.trainer import make_artifacts
from tgdonnx.artifacts import locking
from tgdonnx.artifacts.locking import locked
from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning import train

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from tgdonnx.artifacts.locking import announce, locked
with locked(Path(sys.argv[1])):
    announce(Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_artifacts(models.dncnn(0), tmp_path_factory.mktemp("trained"), tgdonnx.Phi(0.3))
    train(directory, data(), OPTIONS)
    return directory


@pytest.fixture
def holder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    monkeypatch.setattr(locking, "READERS_WAIT", 0.2)
    command = [sys.executable, "-c", HOLDER, str(trained)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def whole(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(
    "work",
    [
        lambda directory, _: train(directory, data(), OPTIONS, resume=True),
        lambda directory, _: tgdonnx.build(directory.parent / "masked.onnx", directory, overwrite=True),
        lambda directory, folder: tgdonnx.export(directory, folder / "tuned.onnx"),
        lambda directory, folder: tgdonnx.report(directory, folder / "page.html"),
    ],
    ids=["train", "build", "export", "report"],
)
def test_who_holds_a_directory_is_told_to_everybody_else(
    work: Callable[[Path, Path], object], trained: Path, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    before = whole(trained)
    with pytest.raises(ArtifactsError, match=rf"is in use by process {holder.pid} since \d{{4}}-.* UTC; wait until"):
        work(trained, tmp_path)
    assert whole(trained) == before
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_blocks_nobody(
    trained: Path, holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (trained / ".lock.owner").exists()
    directory = Path(shutil.copytree(trained, tmp_path / "copy"))
    with locked(trained):
        pass
    assert not (trained / ".lock.owner").exists()
    assert train(directory, data(), OPTIONS, resume=True).steps == 9


def test_a_reader_waits_for_a_moment(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "READERS_WAIT", 30.0)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(trained):
            inside.set()
            leave.wait(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    with pytest.raises(ArtifactsError, match="is in use"), locked(trained):
        pass
    tgdonnx.export(trained, tmp_path / "tuned.onnx")
    thread.join()
    assert (tmp_path / "tuned.onnx").exists()


def test_a_process_may_take_its_lock_twice_and_still_holds_it_after_giving_it_back_once(trained: Path) -> None:
    seen: list[str] = []

    def try_it() -> None:
        try:
            with locked(trained):
                seen.append("free")
        except ArtifactsError:
            seen.append("held")

    with locked(trained):
        with locked(trained):
            pass
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    try_it()
    assert seen == ["held", "free"]


def test_where_nothing_can_be_written_readers_need_no_lock_and_writers_are_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadOnly:
        def __init__(self, _: str) -> None: ...

        def acquire(self, **_: object) -> None:
            raise OSError(30, "Read-only file system")

    monkeypatch.setattr(locking, "FileLock", ReadOnly)
    tgdonnx.export(trained, tmp_path / "tuned.onnx")
    assert (tmp_path / "tuned.onnx").exists()
    with pytest.raises(tgdonnx.errors.OutputError, match="cannot be written: Read-only file system"):
        train(trained, data(), OPTIONS, resume=True)


def test_what_is_no_artifacts_directory_gets_no_lock(tmp_path: Path) -> None:
    for work in (
        lambda: train(tmp_path, data(), OPTIONS),
        lambda: tgdonnx.export(tmp_path, tmp_path / "tuned.onnx"),
        lambda: tgdonnx.report(tmp_path, tmp_path / "page.html"),
    ):
        with pytest.raises(ArtifactsError, match="is no artifacts directory"):
            work()
    assert not list(tmp_path.iterdir())
