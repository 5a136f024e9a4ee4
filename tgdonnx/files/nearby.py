"""What may have been meant by a path at which what was wanted is not."""

from __future__ import annotations

import difflib
from pathlib import Path


def meant_by(path: Path) -> str:
    """Returns what is said behind "does not exist": the most similar name beside it, or what is missing above; or nothing."""
    try:
        if path.parent.is_dir():
            near = difflib.get_close_matches(path.name, [each.name for each in path.parent.iterdir()], 1)
            return f"; did you mean {near[0]!r}?" if near else ""
        missing = next((each for each in reversed(path.parents) if not each.exists()), None)
    except (OSError, ValueError):  # it cannot be looked at
        return ""
    return f"; {missing} is missing" if missing else ""


def one_up(directory: Path, name: str) -> str:
    """Returns that the directory above may be meant, where another one in it has a file of the same name; else nothing."""
    try:
        beside = sorted(directory.absolute().parent.iterdir())
        twin = next((each for each in beside if each.name != directory.name and (each / name).is_file()), None)
    except OSError:  # it cannot be looked at
        return ""
    return "" if twin is None else f"; did you mean {directory.parent}, in which {twin.name} has {name}, too?"
