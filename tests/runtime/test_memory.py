"""The largest resident memory of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tgdonnx.runtime import memory
from tgdonnx.runtime.memory import peak_memory

linux = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not tell")


@linux
def test_it_is_of_this_process_and_not_of_the_one_that_started_it() -> None:
    taken = np.ones(2**24)  # 128 MiB
    here = peak_memory()
    assert here is not None
    assert here > taken.nbytes
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['peak_memory']())"
    command = [sys.executable, "-c", code, memory.__file__]
    there = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 2**22 < there < taken.nbytes / 2


def test_where_the_system_does_not_tell_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert peak_memory() is None
    (tmp_path / "status").write_text("Name: python\n")
    assert peak_memory() is None
