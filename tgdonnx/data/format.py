"""What a format is: which files have it, what reads them, and what they say of themselves."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.lazy_arrays import ArrayGroup, LazyArray
from tgdonnx.errors import RuntimeMissingError


@dataclass(frozen=True)
class Library:
    """A library that reads a format, imported when a file of it is met.

    Attributes:
        module: what is imported.
        package: what it is called.
        extra: the extra of tgdonnx that installs it.
    """

    module: str
    package: str
    extra: str

    def load(self, where: str) -> Any:
        """Imports it; ``where`` is the file, for messages.

        Raises:
            RuntimeMissingError: it is not installed.
        """
        try:
            return importlib.import_module(self.module)
        except ImportError as error:
            raise RuntimeMissingError(
                f"{where} is read with {self.package}, which is not installed",
                remedy=f"pip install 'tgdonnx[{self.extra}]'",
            ) from error


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        title: what messages call a file of it: "a TITLE file", or of those that hold one sample "a TITLE".
        suffixes: of its files, in lower case.
        streamed: those of the suffixes whose files are read piece by piece; others are read whole.
        axes: the layouts that its files say of themselves; none where arrays are as the model takes them.
        library: what reads it; None for numpy.
    """

    title: str
    suffixes: tuple[str, ...]
    streamed: tuple[str, ...]
    axes: tuple[str, ...]
    library: Optional[Library]


@dataclass(frozen=True)
class GroupFormat(Format):
    """A format whose files hold several arrays by name.

    Attributes:
        open: opens a file; keeps what it reads whole in the cache. Raises `DataError`.
    """

    open: Callable[[Path, FileCache], ArrayGroup]


@dataclass(frozen=True)
class ArrayFormat(Format):
    """A format whose files hold one array.

    Attributes:
        open: opens a file; keeps what it reads whole in the cache. Raises `DataError`.
        holds_sample: whether the array is one sample, so that only a directory of files makes an array of samples.
    """

    open: Callable[[Path, FileCache], LazyArray]
    holds_sample: bool


@dataclass(frozen=True)
class SeriesFormat(Format):
    """A format in which a directory of files holds one array.

    Attributes:
        open: opens the files of a directory; keeps what it reads in the cache. Raises `DataError`.
        recognises: whether a file is of a series; it may have another suffix, or none.
    """

    open: Callable[[Path, Sequence[Path], FileCache], LazyArray]
    recognises: Callable[[Path], bool]
