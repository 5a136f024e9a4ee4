"""How much memory this process took, as far as the system tells."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

_STATUS = Path("/proc/self/status")


def peak_memory() -> Optional[int]:
    """Returns the largest resident memory of this process so far, in bytes; None where the system does not tell.

    That is Linux only. What ``getrusage`` gives begins with the peak of the process that started this one, so that a small
    run in a large program would be told too large.
    """
    try:
        lines = _STATUS.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines if line.startswith("VmHWM:"))
    return next((int(words[1]) * 1024 for words in found), None)
