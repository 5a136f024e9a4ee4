"""Temporary directories, and what killed processes left of theirs.

A directory is called ``tgdonnx-`` and something, and holds a file ``.lock`` that its owner has locked for as long as it lives.
One whose lock can be had belongs to nobody any more; the next process deletes it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tgdonnx.errors import OutputError

PREFIX = "tgdonnx-"
_LOCK = ".lock"
_YOUNG = 60.0  # seconds in which an owner makes its lock


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Gives an empty temporary directory, which is deleted when the block ends, and deletes those of dead processes.

    Raises:
        OutputError: there is no directory for temporary files.
    """
    try:
        outer = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        raise OutputError(
            f"there is no place for temporary files ({error.strerror or error})",
            remedy="set TMPDIR to a directory that can be written",
        ) from error
    lock = FileLock(str(outer / _LOCK))
    try:
        try:
            lock.acquire(timeout=0)
        except (OSError, NotImplementedError):
            pass  # without locks nobody deletes what is left either
        else:
            _sweep(outer)
        work = outer / "work"
        work.mkdir()
        yield work
    finally:
        lock.release()
        shutil.rmtree(outer, ignore_errors=True)


def _sweep(mine: Path) -> None:
    """Deletes the directories beside ``mine`` whose owners are dead."""
    for path in mine.parent.glob(f"{PREFIX}*"):
        if path == mine or path.is_symlink():
            continue
        try:
            if path.stat().st_uid != mine.stat().st_uid or time.time() - path.stat().st_mtime < _YOUNG:
                continue
            if not (path / _LOCK).is_file():
                continue  # not ours, though it is called so
            lock = FileLock(str(path / _LOCK))
            lock.acquire(timeout=0)
        except (OSError, Timeout, NotImplementedError):
            continue
        shutil.rmtree(path, ignore_errors=True)
        lock.release()
