"""The place of artifacts: which directory may become one, and how it becomes one whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tgdonnx.artifacts import manifest as files
from tgdonnx.artifacts.locking import locked
from tgdonnx.errors import OutputError
from tgdonnx.files.access import writing
from tgdonnx.files.leftovers import remove_leftovers, temporary_beside
from tgdonnx.files.outputs import is_of_artifacts, require_no_link


def require_new_directory(path: Path, *, overwrite: bool) -> None:
    """Checks that artifacts may be put into a directory.

    Raises:
        OutputError: it is a link, or holds something that may not be replaced.
    """
    require_no_link(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; the artifacts need a directory")
    if path.is_dir() and any(path.iterdir()):
        if not overwrite:
            raise OutputError(f"{path} exists", remedy="pass `overwrite=True` to replace it, or choose another name")
        if not (path / files.MANIFEST).is_file():
            raise OutputError(
                f"{path} holds other files than artifacts, and is not replaced", remedy="choose another name"
            )


@contextmanager
def new_directory(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a temporary directory beside ``path`` that takes its place when the block ends without an error.

    Raises:
        ArtifactsError: another process is at work there.
        OutputError: it holds something that may not be replaced, or cannot be written.
    """
    require_new_directory(path, overwrite=overwrite)
    temporary = temporary_beside(path)
    try:
        with writing(path):
            # Nobody may be training in what is replaced. The lock is in there, so it is let go of before the directory moves.
            with locked(path) if (path / files.MANIFEST).is_file() else nullcontext():
                temporary.mkdir()
                (temporary / files.LOCK).touch()
                yield temporary
            if path.is_dir():
                # `remove_leftovers` leaves it: before the loop below is over, it holds files of the user's.
                old = temporary_beside(path, "was")
                path.rename(old)
                temporary.rename(path)
                for other in old.iterdir():
                    if not is_of_artifacts(other.name):  # a report, say
                        other.rename(path / other.name)
                shutil.rmtree(old)
            else:
                temporary.rename(path)
            remove_leftovers(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
