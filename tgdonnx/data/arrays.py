"""Arrays of numpy: in memory, in ``.npy`` files, in ``.npz`` archives.

A ``.npy`` file stays on disk: of what is read, the run of rows along its slowest axis is mapped into memory, copied and let
go, so neither memory nor address space grows with the file. An archive is compressed or not, but read whole in any case.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from tgdonnx.data.stored import Array, Case, Region, Stored, WholeFiles
from tgdonnx.errors import DataError
from tgdonnx.regular import open_regular

# What numpy raises for files that are damaged or no arrays.
_DAMAGE = (ValueError, EOFError, OSError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def memory_case(arrays: Mapping[str, Array]) -> Case:
    """Returns arrays in memory as a case."""
    return Case("the data", {name: in_memory(np.asanyarray(array), "the data") for name, array in arrays.items()})


def in_memory(array: Array, place: str, files: tuple[Path, ...] = ()) -> Stored:
    """Returns an array in memory."""
    return Stored(place, array.shape, array.dtype, lambda region: array[region], files=files)


def open_npy(path: Path) -> Stored:
    """Opens a ``.npy`` file.

    Raises:
        DataError: it cannot be read.
    """
    with opened(path) as file:
        if file.read(2) == b"PK":
            raise DataError(f"{path} is an archive of arrays; name it .npz, or save a single array")
        file.seek(0)
        try:
            shape, fortran, dtype = _header(file)
        except _DAMAGE as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}") from error
        offset = file.tell()
    if dtype.hasobject:
        raise DataError(f"{path} cannot be read: it holds Python objects, not numbers")
    expected = offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    size = path.stat().st_size
    if size < expected:
        raise DataError(f"{path} cannot be read: it is cut off, {size} of {expected} bytes are there")
    # A Fortran array is the C array of its axes in reverse.
    stored_shape = shape[::-1] if fortran else shape

    def read(region: Region) -> Array:
        part = region[::-1] if fortran else region
        if not part:
            return np.array(np.memmap(path, dtype, "r", offset, ())[()])
        row = dtype.itemsize * int(np.prod(stored_shape[1:], dtype=np.int64))
        rows = part[0].stop - part[0].start
        if not rows * row:
            return np.empty(tuple(s.stop - s.start for s in region), dtype)
        try:
            mapped = np.memmap(path, dtype, "r", offset + part[0].start * row, (rows, *stored_shape[1:]))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}") from error
        inner: Region = (slice(None), *part[1:])
        values = np.array(mapped[inner])
        return values.T if fortran else values

    return Stored(str(path), shape, dtype, read, files=(path,))


def open_npz(path: Path, kept: WholeFiles | None = None) -> Case:
    """Opens an ``.npz`` archive.

    Args:
        path: the file.
        kept: where its arrays are kept for a while once they have been read; if None, they are read here and now.

    Raises:
        DataError: it cannot be read.
    """
    if kept is None:
        return Case(path.name, {n: in_memory(_member(path, n), str(path), (path,)) for n in _members(path)})
    return Case(path.name, {name: _in_archive(path, name, header, kept) for name, header in _members(path).items()})


def _in_archive(path: Path, name: str, header: tuple[tuple[int, ...], np.dtype[Any]], kept: WholeFiles) -> Stored:
    def read(region: Region) -> Array:
        return kept.get((path, name), lambda: _member(path, name))[region]

    return Stored(str(path), *header, read, files=(path,))


def _members(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Returns shape and dtype of every array of an archive."""
    with opened(path) as file:
        if file.read(6) == b"\x93NUMPY":
            raise DataError(f"{path} holds a single array; expected an .npz file with one per name")
        file.seek(0)
        try:
            found = {}
            with zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    with archive.open(member) as content:
                        shape, _, dtype = _header(content)
                    if dtype.hasobject:
                        raise ValueError(f"{member} holds Python objects, not numbers")
                    found[member[:-4] if member.endswith(".npy") else member] = shape, dtype
            return found
        except _DAMAGE as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}") from error


def _member(path: Path, name: str) -> Array:
    with opened(path) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                array: Array = archive[name]
                return array
        except _DAMAGE as error:
            raise DataError(f"{path} cannot be read: {name}: {_reason(error)}") from error


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reads the header of a ``.npy`` file: shape, whether it is in Fortran order, dtype."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"format {version[0]}.{version[1]} of .npy is not known; save it with numpy.save")


def opened(path: Path) -> IO[bytes]:
    """Opens a file.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        return open_regular(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
