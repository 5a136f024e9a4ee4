"""The type of options and arguments that are paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.paths import why_unusable


class _PathType(click.Path):
    """A path that a file can have; whether there is one is asked where it is opened."""

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        """Returns the path."""
        if os.fspath(value) == "":
            self.fail("expected a path, got an empty one", param, ctx)
        if reason := why_unusable(value):
            self.fail(f"{os.fspath(value)!r} can be no file: {reason}", param, ctx)
        return super().convert(value, param, ctx)


PATH = _PathType(path_type=Path)
