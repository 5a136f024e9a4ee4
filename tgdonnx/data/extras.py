"""Libraries that read formats, imported when a file of that format is met."""

from __future__ import annotations

import importlib
from typing import Any

from tgdonnx.errors import RuntimeMissingError


def load_extra(module: str, package: str, extra: str, where: str) -> Any:
    """Imports the library that reads a format.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RuntimeMissingError(
            f"{where} is read with {package}, which is not installed; pip install 'tgdonnx[{extra}]'"
        ) from error
