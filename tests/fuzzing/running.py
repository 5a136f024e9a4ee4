"""Run cases, each in a process of its own that begins as a copy of this one, with bounds on time and memory."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Optional

from tests.fuzzing.grammar import Case, make_case
from tests.fuzzing.judging import Outcome, faults, snapshot
from tgdonnx import __main__

MEMORY = 6 * 2**30


def run_case(seed: int, number: int, world: Path, room: Path, seconds: float) -> tuple[Case, Outcome, list[str]]:
    """Runs a case in a fresh copy of the world; returns it, what it did, and what was wrong with that."""
    shutil.rmtree(room, ignore_errors=True)
    here, temporary, home = room / "world", room / "tmp", room / "home"
    shutil.copytree(world, here, symlinks=True)
    temporary.mkdir()
    home.mkdir()
    case = make_case(seed, number, here)
    before = snapshot(here, temporary, home)
    outcome = _in_process(case, here, temporary, home, seconds)
    return case, outcome, faults(case, outcome, here, before, snapshot(here, temporary, home))


def _in_process(case: Case, here: Path, temporary: Path, home: Path, seconds: float) -> Outcome:
    room = here.parent
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = _child(case, here, temporary, home, room)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    end = time.monotonic() + seconds
    code: Optional[int] = None
    while time.monotonic() < end:
        done, ended = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(ended)
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    texts = [(room / name).read_bytes().decode("utf-8", "surrogateescape") for name in ("stdout", "stderr")]
    return Outcome(code, *texts)


def _child(case: Case, here: Path, temporary: Path, home: Path, room: Path) -> int:
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(room / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.update(TMPDIR=os.fspath(temporary), HOME=os.fspath(home), COLUMNS="100")
    tempfile.tempdir = None
    os.chdir(here)
    sys.argv = ["tgdonnx", *case.arguments]
    try:
        __main__.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
