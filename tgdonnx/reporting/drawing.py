"""The door to matplotlib: the only module that imports it, in a way that leaves nothing behind.

When it is imported, matplotlib makes directories in the home of the user and writes a list of fonts there. For the time of
the import it gets a temporary directory instead, with the user's list of fonts if there is one, since to make it takes long.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from tgdonnx.errors import RuntimeMissingError
from tgdonnx.files.scratch import scratch_directory

_VARIABLE = "MPLCONFIGDIR"
_FONTS = "matplotlib.font_manager"


def load_matplotlib() -> Any:
    """Returns the module ``matplotlib``; ``matplotlib.figure`` is imported, pyplot and with it a window system is not.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    try:
        if _FONTS not in sys.modules:
            with _elsewhere():
                importlib.import_module(_FONTS)
        importlib.import_module("matplotlib.figure")
        return importlib.import_module("matplotlib")
    except ImportError as error:
        raise RuntimeMissingError(
            f"figures need matplotlib ({error})", remedy="pip install 'tgdonnx[report]'"
        ) from error


@contextmanager
def _elsewhere() -> Iterator[None]:
    before = os.environ.get(_VARIABLE)
    with scratch_directory() as directory:
        for fonts in _font_lists(before):
            with suppress(OSError):
                shutil.copyfile(fonts, directory / fonts.name)
        os.environ[_VARIABLE] = os.fspath(directory)
        try:
            yield
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before


def _font_lists(configured: Optional[str]) -> list[Path]:
    """Returns the lists of fonts that matplotlib has made before, on this machine and for this user."""
    found: list[Path] = []
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        places = [configured] if configured else [Path(cache, "matplotlib"), Path.home() / ".matplotlib"]
        for place in places:
            found += sorted(Path(place).glob("fontlist-v*.json"))
    return found
