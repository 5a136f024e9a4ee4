"""Runs a command as a user does, in a process of its own that may have no more than 4 GiB of addresses and so many seconds."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ADDRESSES = 4 * 2**30  # the libraries alone map about one


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    status: int
    seconds: float
    stdout: str
    stderr: str


def run_bounded(*arguments: object, cwd: Path, timeout: float = 60) -> Outcome:
    """Runs ``tgdonnx``; a command that does not end raises `subprocess.TimeoutExpired`."""
    start = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "tgdonnx", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES)),
        check=False,
    )
    return Outcome(found.returncode, time.monotonic() - start, found.stdout, found.stderr)
