"""The types of options and arguments that are paths: what a command reads, and what it writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.files.outputs import Kind
from tgdonnx.files.paths import why_unusable


class PathType(click.Path):
    """A path that a file can have; whether there is one is asked where it is opened."""

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        """Returns the path."""
        if os.fspath(value) == "":
            self.fail("expected a path, got an empty one", param, ctx)
        if os.fspath(value) == "-":
            self.fail("standard input and output are no files here; name a file, or ./- if it is called so", param, ctx)
        if reason := why_unusable(value):
            self.fail(f"{os.fspath(value)!r} can be no file: {reason}", param, ctx)
        return super().convert(value, param, ctx)


class OutputPath(PathType):
    """A path that a command writes; every other path is one that it reads."""

    def __init__(self, kind: Kind = Kind.FILE) -> None:
        """Says what is written."""
        super().__init__(path_type=Path)
        self.kind = kind


PATH = PathType(path_type=Path)
