"""Names of what is written beside its place until it is whole, and the end of what a killed process left under such names.

``.NAME.PID.HEX.tmp`` becomes NAME; ``.NAME.PID.HEX.old`` was NAME and is on its way out. The next process
that writes NAME deletes those whose process is gone. The number of a process says nothing about one in another container, or
on another machine; so only what nobody has touched for a while is deleted.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

_QUIET = 600.0  # seconds: a file that is being written changes more often
_DAY = 86400.0


def temporary_beside(path: Path, suffix: str = "tmp") -> Path:
    """Returns a new hidden name beside ``path``.

    Args:
        path: what will be there.
        suffix: ``tmp``, or ``old`` for what was there; `remove_leftovers` deletes only these.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.{suffix}")


def remove_leftovers(path: Path) -> None:
    """Deletes what dead processes left beside ``path``, which is whole now."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.[0-9a-f]{{8}}\.(tmp|old)")
    with suppress(OSError), os.scandir(path.parent) as entries:
        found = [(Path(entry.path), match) for entry in entries if (match := ours.fullmatch(entry.name))]
        for left, match in found:
            with suppress(OSError):
                if _is_dead(int(match[1]), time.time() - left.lstat().st_mtime):
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _is_dead(process: int, quiet: float) -> bool:
    if quiet < _QUIET:
        return False
    if sys.platform == "win32":  # there is no asking without ending it
        return quiet > _DAY
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False
