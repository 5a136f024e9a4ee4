"""What the system says of a file that cannot be read or written, as an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tgdonnx.errors import OutputError, TgdonnxError


@contextmanager
def reading(path: Path, error_type: type[TgdonnxError]) -> Iterator[None]:
    """Tells an OSError of the block as an error of ours.

    Args:
        path: what is read.
        error_type: of the error.

    Raises:
        TgdonnxError: of that type; it cannot be read.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, TgdonnxError):
            raise
        raise error_type(f"{path} cannot be read: {error.strerror or error}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tells an OSError of the block as an OutputError; one that says more, as that of a part of it, stays.

    Args:
        path: what is written.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, TgdonnxError):
            raise
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
