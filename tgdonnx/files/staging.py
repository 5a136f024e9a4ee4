"""Many files that are written together: beside their place first, and moved there when all of them are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tgdonnx.errors import OutputError
from tgdonnx.files.access import writing
from tgdonnx.files.leftovers import remove_leftovers, temporary_beside
from tgdonnx.files.outputs import require_no_link


def require_places(directory: Path, names: Collection[str], *, overwrite: bool = False) -> None:
    """Checks that files may be written into a directory, before any work is done.

    Args:
        directory: where; it need not be there, but that which it lies in.
        names: of the files, perhaps in directories below it.
        overwrite: whether they may exist.

    Raises:
        OutputError: two are the same, one is there, the directory cannot be written to, or one below it is a link.
    """
    for inner in {parent for name in names for parent in Path(name).parents[:-1]}:
        require_no_link(directory / inner)
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise OutputError(
                f"two results would be called {directory / name}",
                remedy="give the files other names, or apply the model to fewer",
            )
        seen.add(name.casefold())
        place = directory / name
        if place.is_dir() or (place.exists() and not place.is_file()):
            raise OutputError(f"{place} is no regular file, and is not replaced", remedy="choose another directory")
        if os.path.lexists(place) and not overwrite:
            raise OutputError(f"{place} exists", remedy="pass `overwrite=True` to replace it, or choose another name")
    if os.path.lexists(directory) and not directory.is_dir():
        what = "a file" if directory.exists() else "a link that leads nowhere"
        raise OutputError(f"{directory} is {what}; expected a directory", remedy="choose another name")
    if not directory.parent.is_dir():
        raise OutputError(f"the directory {directory.parent} does not exist", remedy="create it or choose another")
    writable = directory if directory.is_dir() else directory.parent
    if not os.access(writable, os.W_OK | os.X_OK):
        raise OutputError(
            f"the directory {writable} is not writable", remedy="change its permissions or choose another"
        )


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Gives an empty directory, and moves the files in it to ``directory`` when the block ends without an error.

    Raises:
        OutputError: they cannot be written.
    """
    temporary = temporary_beside(directory)
    with writing(directory):
        temporary.mkdir()
    try:
        yield temporary
        with writing(directory):
            for file in sorted(path for path in temporary.rglob("*") if path.is_file()):
                place = directory / file.relative_to(temporary)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, place)
            remove_leftovers(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_directory(
    source: Path,
    target: Path,
    copy: Callable[[Path, Path], object] = shutil.copyfile,
    left_out: Collection[str] = (),
) -> None:
    """Copies a directory; where `shutil.copytree` goes on and lists what failed, this ends with what the system said first.

    Args:
        source: the directory.
        target: what is not there yet.
        copy: copies a file.
        left_out: names of files that are not copied.

    Raises:
        OSError: something cannot be read or written; what was copied so far stays.
    """
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.is_dir():
            copy_directory(path, target / path.name, copy, left_out)
        elif path.name not in left_out:
            copy(path, target / path.name)
