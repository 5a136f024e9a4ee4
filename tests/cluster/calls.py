"""What workers are asked to do in tests: they import it by its name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tgdonnx.cluster import is_cancelled, note
from tgdonnx.errors import DataError
from tgdonnx.runtime import session_options


def squared(number: int) -> int:
    note(("at", number))
    if number == 3:
        raise DataError("no threes", remedy="take a two")
    return number * number


def threads_of_sessions(_: int) -> int:
    return int(session_options().intra_op_num_threads)


def process(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def deadly(death: tuple[Path, int]) -> int:
    """Kills the process that it runs in, so many times; each leaves a mark."""
    folder, times = death
    deaths = len([*folder.iterdir()])
    if deaths < times:
        (folder / str(deaths)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return deaths


def until_cancelled(folder: Path) -> None:
    (folder / "began").touch()
    end = time.monotonic() + 60
    while not is_cancelled() and time.monotonic() < end:
        time.sleep(0.02)
    (folder / "cancelled").touch()
