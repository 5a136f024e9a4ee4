"""Whether workers of other machines are as this one is: the same versions, the same files under the same paths.

Files are not sent: data may be large, and what a call writes has to come to the place that was asked for. So workers need a
common file system, or copies of what is read. Before the first call every worker is asked what it sees.
"""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Optional

from tgdonnx.cluster.opening import Cluster
from tgdonnx.errors import ClusterError, OutputError
from tgdonnx.files.regular import open_regular

_HASHED = 2**20  # bytes at either end of a file
_PACKAGES = ("tgdonnx", "onnxruntime", "onnxruntime-gpu", "onnxruntime-training-cpu", "onnx", "onnx-ir", "numpy")


@dataclass(frozen=True)
class Sight:
    """What a process sees.

    Attributes:
        versions: of Python and the packages on which results depend; those that are not installed are left out.
        files: for every path what tells it from another: size and a hash, or what a directory holds; None if it is not there.
        writable: whether the directory that is written to is there, with the mark that was left in it.
    """

    versions: Mapping[str, str]
    files: Mapping[str, Optional[str]]
    writable: bool


def look(paths: tuple[str, ...], mark: str) -> Sight:
    """Returns what this process sees of paths, and of a mark in a directory that it is to write to."""
    writable = os.path.isfile(mark) and os.access(os.path.dirname(mark), os.W_OK)  # noqa: PTH113, PTH120  # plain text travels
    return Sight(versions(), {path: _seen(Path(path)) for path in paths}, writable)


def versions() -> dict[str, str]:
    """Returns the versions on which results depend."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _seen(path: Path) -> Optional[str]:
    try:
        if path.is_dir():
            listed = sorted((str(each.relative_to(path)), each.stat().st_size) for each in path.rglob("*"))
            return f"{len(listed)} entries, {hashlib.sha256(repr(listed).encode()).hexdigest()}"
        digest = hashlib.sha256()
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(file.read(_HASHED))
            file.seek(max(0, size - _HASHED))
            digest.update(file.read(_HASHED))
        return f"{size:,} bytes, {digest.hexdigest()}"
    except OSError:
        return None


def require_alike(cluster: Cluster, reads: Iterable[object], writes: Path) -> None:
    """Checks that every worker of a running scheduler sees what this process sees, before anything is done.

    Args:
        cluster: whose workers are asked; those of this machine, which were started for it, need not be.
        reads: what will be read there; what is no path is sent, and not looked for.
        writes: a directory that will be written to, or will be made.

    Raises:
        ClusterError: a worker has other versions, or sees another file, or none.
        OutputError: nothing can be written there from here either.
    """
    if cluster.local:
        return
    place = next(path for path in (writes.absolute(), *writes.absolute().parents) if path.is_dir())
    mark = place / f".tgdonnx-{uuid.uuid4().hex}"
    try:
        mark.touch()
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror or error}") from error
    try:
        _compare(cluster, reads, mark)
    finally:
        mark.unlink()


def require_same_files(cluster: Cluster, reads: Iterable[object]) -> None:
    """Checks the same where nothing will be written.

    Raises:
        ClusterError: a worker has other versions, or sees another file, or none.
    """
    if not cluster.local:
        _compare(cluster, reads, None)


def _compare(cluster: Cluster, reads: Iterable[object], mark: Optional[Path]) -> None:
    paths = tuple(str(Path(each).absolute()) for each in reads if isinstance(each, (str, os.PathLike)))
    try:
        here, there = look(paths, str(mark or "")), cluster.client.run(look, paths, str(mark or ""))
    except ModuleNotFoundError as error:
        raise ClusterError(f"a worker has no {error.name}", remedy="install tgdonnx there as here") from error
    for worker, seen in there.items():
        _require_same(worker, here, seen)
        if mark is not None and not seen.writable:
            raise ClusterError(
                f"worker {worker} cannot write to {mark.parent} as this machine sees it",
                remedy="workers need a file system in common, for the output",
            )


def _require_same(worker: str, here: Sight, there: Sight) -> None:
    for name in sorted({*here.versions, *there.versions}):
        mine, other = (sight.versions.get(name, "not installed") for sight in (here, there))
        if mine != other:
            raise ClusterError(
                f"worker {worker} has {name} {other}, here it is {mine}",
                remedy="install the same versions on all machines",
            )
    for path, seen in here.files.items():
        if there.files[path] != seen:
            found = "is not there" if there.files[path] is None else f"has {there.files[path]}, here {seen}"
            raise ClusterError(
                f"for worker {worker} {path} {found}", remedy="workers need the same files under the same paths"
            )
