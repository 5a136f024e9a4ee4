"""What a job reads, by content: so that it is known later whether it would read the same.

Of every file there is its size, its time of change, and its SHA-256. A file of the same size and time is taken for the same,
as build tools take it; of any other the hash decides, so what was copied or touched is still the same.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tgdonnx.errors import DataError
from tgdonnx.files.access import reading
from tgdonnx.files.model_file import load_model
from tgdonnx.files.typed import Count, Sha256

_CHUNK = 2**20


@dataclass(frozen=True)
class ReadFile:
    """A file that a job reads.

    Attributes:
        name: within what was named, such as a directory of data.
        path: where it lay.
        bytes: its size.
        modified: its time of change, in ns since 1970.
        sha256: of its content.
    """

    name: str
    path: str
    bytes: Count
    modified: int
    sha256: Sha256


Inputs = Mapping[str, tuple[ReadFile, ...]]
"""What is read, by what it is for."""


@dataclass
class Hashes:
    """Hashes that are known, by path; what changed since is hashed again."""

    known: dict[str, ReadFile] = field(default_factory=dict)

    def remember(self, files: Iterable[ReadFile]) -> None:
        """Takes over what an earlier call found."""
        self.known.update((each.path, each) for each in files)

    def of(self, path: Path, name: str) -> ReadFile:
        """Returns a file as it is now.

        Raises:
            DataError: it cannot be read.
        """
        where = str(path.absolute())
        with reading(path, DataError):
            status = path.stat()
            known = self.known.get(where)
            if known is not None and (known.bytes, known.modified) == (status.st_size, status.st_mtime_ns):
                digest = known.sha256
            else:
                digest = _sha256(path)
        found = ReadFile(name, where, status.st_size, status.st_mtime_ns, digest)
        self.known[where] = found
        return found


def inputs_of(reads: Mapping[str, object], hashes: Hashes) -> dict[str, tuple[ReadFile, ...]]:
    """Returns what is read as it is now.

    Args:
        reads: paths, by what they are for; a model's external data goes with it.
        hashes: those that are known.

    Raises:
        DataError: something is missing or cannot be read.
        ModelFileError: the model is none.
    """
    return {
        role: tuple(hashes.of(path, name) for name, path in files_of(Path(os.fspath(source)), model=role == "model"))  # type: ignore[call-overload]  # `checks` lets only paths pass
        for role, source in reads.items()
    }


def files_of(source: Path, *, model: bool = False) -> list[tuple[str, Path]]:
    """Returns the files that a path leads to, by name: itself, all in a directory, or those of a pattern.

    Args:
        source: the path.
        model: whether it is a model, whose external data counts.

    Raises:
        DataError: there is none.
        ModelFileError: the model is none.
    """
    if source.is_dir():
        inside = sorted(path for path in source.rglob("*") if path.is_file())
        found = [(path.relative_to(source).as_posix(), path) for path in inside]
    elif source.is_file():
        beside = load_model(source).external_files if model else ()
        found = [("", source), *((name, source.parent / name) for name in beside)]
    else:
        matching = map(Path, sorted(glob.glob(str(source))))  # noqa: PTH207  # a pattern may begin anywhere
        found = [(path.name, path) for path in matching if path.is_file()]
    if not found:
        raise DataError(f"{source} {'holds no file' if source.is_dir() else 'does not exist'}")
    return found


def told_changes(before: Inputs, now: Inputs) -> list[str]:
    """Says what is read otherwise than before, by content; where it lies does not count."""
    said = []
    for role in dict.fromkeys((*before, *now)):
        was, is_now = ({each.name: each.sha256 for each in inputs.get(role, ())} for inputs in (before, now))
        if not was or not is_now:
            said.append(f"{role} {'is new' if is_now else 'is left out'}")
            continue
        differ = [name for name in dict.fromkeys((*was, *is_now)) if was.get(name) != is_now.get(name)]
        if differ:
            one = f" ({differ[0]})" if differ[0] else ""
            said.append(f"{role} has another content{one if len(differ) == 1 else f' in {len(differ)} files'}")
    return said


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()
