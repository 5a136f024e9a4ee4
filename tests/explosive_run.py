"""Runs commands as a user does, each in a process of its own that may have no more than 4 GiB of addresses and so many seconds.

``python -m tests.explosive_run`` reads from standard input what to run, as JSON. It imports what commands need once, and forks
a process for each before the runtime has started a thread.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ADDRESSES = 4 * 2**30  # the libraries alone map about one


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    status: int
    seconds: float
    stdout: str
    stderr: str


def run_bounded(commands: Sequence[Sequence[object]], *, cwd: Path, timeout: int = 60) -> list[Outcome]:
    """Runs several ``tgdonnx`` one after the other; one that does not end is ended, and has a status below 0."""
    task = json.dumps({"cwd": str(cwd), "timeout": timeout, "commands": [[*map(str, each)] for each in commands]})
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.explosive_run"], input=task, cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(**each) for each in json.loads(done.stdout)]


def _forked(arguments: list[str], cwd: str, timeout: int) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.chdir(cwd)
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
            signal.alarm(timeout)
            _run(arguments)
        _, status = os.waitpid(child, 0)
        seconds, told = time.monotonic() - start, []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode(errors="replace"))
    return Outcome(os.waitstatus_to_exitcode(status), seconds, *told)


def _run(arguments: list[str]) -> None:
    """Runs a command, and ends the process with its status."""
    from tgdonnx.__main__ import main

    sys.argv = ["tgdonnx", *arguments]
    status: object = 1
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    import onnxruntime  # noqa: F401  # for all of them

    from tgdonnx.cli import main as group

    assert group.commands  # imports them
    given = json.load(sys.stdin)
    outcomes = [_forked(arguments, given["cwd"], given["timeout"]) for arguments in given["commands"]]
    json.dump([asdict(outcome) for outcome in outcomes], sys.stdout)
