"""The fuzz of the whole command line, short and with fixed seeds; `python -m tools.fuzz` is the longer one.

It runs in a process of its own, which has opened no session of the runtime when it forks one process per case.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "cases"), [(11, 80)])
def test_whatever_it_is_given_a_command_ends_with_a_sentence_and_harms_nothing(seed: int, cases: int) -> None:
    command = [sys.executable, "-m", "tools.fuzz", "--seed", str(seed), "--cases", str(cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20 * cases, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = re.search(rf"^cases {cases}: sentences (\d+), done (\d+), answers no (\d+), ", done.stdout, re.MULTILINE)
    assert summary is not None, done.stdout
    # Else the honest files would be refused too, and nothing behind the first check were looked at.
    sentences, finished, _ = map(int, summary.groups())
    assert sentences > cases / 4
    assert finished > cases / 8
