"""Paths that no file can have, told before anything is opened there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

_ADDED = ".data.01234567.tmp"  # the longest end that names of files get while they are written, besides a dot in front


def why_unwritable(path: Union[str, os.PathLike[str]]) -> str:
    """Returns why nothing can be written at a path, for its name; empty if something can.

    Files are written beside their target under a longer name, and have external data beside them.
    """
    path = Path(path)
    return why_unusable(path) or (why_unusable(path.with_name(f".{path.name}{_ADDED}")) if path.name else "")


def why_unusable(path: Union[str, os.PathLike[str]]) -> str:
    """Returns why there can be no file at a path; empty if there can, whether or not there is one.

    It is too long, goes through links in a circle, or holds characters that no name of a file may hold.
    """
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ""
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeEncodeError as error:
        return f"the character {error.object[error.start]!r} can be in no name of a file here"
    except ValueError:
        return "the character '\\x00' can be in no name of a file"
    return ""


def why_no_text(path: Union[str, os.PathLike[str]]) -> str:
    """Returns why ONNX Runtime's training part cannot be told a path; empty if it can. It takes names as UTF-8 only."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return "its name is no UTF-8 text, and ONNX Runtime takes no other; choose another name"
    return ""
