"""One process at a time in a directory: an operating system's lock on ``.lock`` in it, which ends with its holder, kill -9 too.

Writers (`train`, `build` over an old directory, `compare`) refuse at once where somebody else is at work; readers (`export`,
`report`) wait for a moment first. Where nothing can be written, nobody else's writing is to be feared from here either, and
readers go without.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from filelock import BaseFileLock, FileLock, Timeout

from tgdonnx.artifacts.manifest import LOCK, LOCK_OWNER
from tgdonnx.errors import ArtifactsError, OutputError

READERS_WAIT = 5.0  # seconds

# What this process holds, and how often: a report exports, and both lock. By thread, since threads exclude each other, too.
_held: dict[tuple[str, int], int] = {}


@contextmanager
def locked(directory: Path, *, reading: bool = False) -> Iterator[None]:
    """Holds the lock of a directory while the block runs. A process may take it again while it holds it.

    Args:
        directory: which exists.
        reading: wait for a moment where it is held, and go without a lock where none can be written.

    Raises:
        ArtifactsError: somebody else holds it.
        OutputError: the directory cannot be written, and not ``reading``.
    """
    key = (os.path.realpath(directory), threading.get_ident())
    if key in _held:
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
        return
    lock = _acquired(directory, reading=reading)
    if lock is None:
        yield
        return
    owner, _held[key] = directory / LOCK_OWNER, 1
    try:
        yield
    finally:
        del _held[key]
        with suppress(OSError):
            owner.unlink()
        lock.release()


def _acquired(directory: Path, *, reading: bool) -> Optional[BaseFileLock]:
    """Returns the lock, taken; None where there is none to be had."""
    lock = FileLock(str(directory / LOCK))
    try:
        lock.acquire(timeout=READERS_WAIT if reading else 0, poll_interval=0.05)
    except Timeout as error:
        raise ArtifactsError(
            f"{directory} is in use{_holder(directory)}", remedy="wait until that ends, or stop it"
        ) from error
    except NotImplementedError:  # the file system has no locks
        return None
    except OSError as error:
        if reading:
            return None
        raise OutputError(f"{directory} cannot be written: {error.strerror or error}") from error
    return lock


def announce(directory: Path) -> None:
    """Writes down who holds the lock of a directory, for whom it is refused: when work begins that takes its time.

    Not before: what is refused has changed nothing, not even the time of the directory.
    """
    with suppress(OSError):  # it is only told to others
        (directory / LOCK_OWNER).unlink(missing_ok=True)  # were it a link, it would be written where that leads
        (directory / LOCK_OWNER).write_text(f"{os.getpid()} {time.time():.0f}", "utf-8")


def is_locked(directory: Path) -> bool:
    """Whether somebody else is at work in a directory."""
    try:
        with locked(directory):
            return False
    except ArtifactsError:
        return True
    except OutputError:
        return False


def _holder(directory: Path) -> str:
    try:
        process, since = (directory / LOCK_OWNER).read_text("utf-8").split()
        start = datetime.fromtimestamp(int(since), timezone.utc)
        return f" by process {int(process)} since {start:%Y-%m-%d %H:%M:%S} UTC"
    except (OSError, ValueError, OverflowError):
        return ""
