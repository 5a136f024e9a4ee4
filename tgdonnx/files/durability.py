"""When what is written has to be on the disk: at once, or with all else that a batch of small jobs writes.

Every file of ours is written beside its place and renamed, so a killed process leaves it whole or as it was. That it outlives a
power cut as well takes waiting for the disk, a few milliseconds for every file. In `synced_together` that is put off: what was
written is put on the disk when the oldest of it is ten seconds old, and at the end. Whoever uses it has to know, after a power
cut, what was damaged; a batch does by the hashes that it records.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Optional

PUT_OFF = 10.0  # seconds


class Waiting:
    """Files that were written, and are not on the disk for certain."""

    def __init__(self) -> None:
        self._paths: dict[Path, None] = {}
        self._since = 0.0

    def add(self, path: Path) -> None:
        """Adds a file; puts all of them on the disk if the first has waited long enough."""
        if not self._paths:
            self._since = time.monotonic()
        self._paths[path] = None
        if time.monotonic() - self._since >= PUT_OFF:
            self.sync()

    def sync(self) -> None:
        """Puts all of them on the disk; what was replaced or deleted since needs it no more."""
        paths, self._paths = self._paths, {}
        for path in paths:
            with suppress(OSError), path.open("rb") as file:
                os.fsync(file.fileno())


_WAITING: ContextVar[Optional[Waiting]] = ContextVar("_WAITING", default=None)


@contextmanager
def synced_together(waiting: Waiting) -> Iterator[None]:
    """Has files that are written in the block, in this thread, wait for the disk together."""
    before = _WAITING.set(waiting)
    try:
        yield
    finally:
        _WAITING.reset(before)


def on_disk(number: int, path: Path) -> None:
    """Waits until a file is on the disk, or has it wait with others.

    Args:
        number: of the open file.
        path: where it will be.
    """
    waiting = _WAITING.get()
    if waiting is None:
        os.fsync(number)
    else:
        waiting.add(path)
