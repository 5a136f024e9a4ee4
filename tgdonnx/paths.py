"""Paths that no file can have, told before anything is opened there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union


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
