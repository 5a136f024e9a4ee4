"""Runs commands as a user does, each in a process of its own that may have no more than 4 GiB of addresses and so many seconds.

``python -m tests.support.explosive_run`` reads from standard input what to run, a line of JSON for each run. It imports what
commands need once, and forks a process for each command; the runtime starts its threads in these alone.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import tgdonnx
from tgdonnx.runtime import load_onnxruntime
from tgdonnx.runtime.training import load_training_api

ADDRESSES = 4 * 2**30  # the libraries alone map about one


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    status: int
    seconds: float
    stdout: str
    stderr: str


class Runner:
    """The process that forks; to be used as a context."""

    def __enter__(self) -> Runner:
        command = [sys.executable, "-m", "tests.support.explosive_run"]
        root, pipe = Path(__file__).parents[2], subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, commands: Sequence[Sequence[object]], *, cwd: Path, timeout: int = 60) -> list[Outcome]:
        """Runs several ``tgdonnx`` one after the other; one that does not end is ended, and has a status below 0."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {"cwd": str(cwd), "timeout": timeout, "commands": [[*map(str, each)] for each in commands]}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return [Outcome(**each) for each in json.loads(self._process.stdout.readline())]


def _forked(arguments: list[str], cwd: str, timeout: int) -> Outcome:
    start = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
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


def _import_all() -> None:
    """Imports what commands import when they run, and the libraries that do not come with their modules."""
    for module in pkgutil.walk_packages(tgdonnx.__path__, "tgdonnx."):
        if not module.name.startswith("tgdonnx.federated."):  # which Flower's programs import, and no command
            importlib.import_module(module.name)
    load_onnxruntime()
    load_training_api()


if __name__ == "__main__":
    _import_all()
    for line in sys.stdin:
        given = json.loads(line)
        outcomes = [_forked(arguments, given["cwd"], given["timeout"]) for arguments in given["commands"]]
        print(json.dumps([asdict(outcome) for outcome in outcomes]), flush=True)  # noqa: T201  # the answer
