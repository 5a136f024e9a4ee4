"""Arrays of numpy: in memory, in ``.npy`` files, in ``.npz`` archives.

A ``.npy`` file stays on disk: of what is read, the run of rows along its slowest axis is mapped into memory, copied and let
go, so neither memory nor address space grows with the file. An archive is compressed or not, but read whole in any case.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Optional

import numpy as np

from tgdonnx.data.array_likes import ArrayLike, as_array
from tgdonnx.data.file_cache import FileCache, opened
from tgdonnx.data.format import ArrayFormat, GroupFormat
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray, Region, machine_memory
from tgdonnx.errors import DataError

Header = tuple[tuple[int, ...], bool, "np.dtype[Any]"]
_NUMBERS = "biufc"
_TEXT = "US"  # no model takes it, but it may say what samples belong to
_LONGEST_TEXT = 4096  # bytes
# Packed tighter than this, and large, an array is more likely a trap than data; it has to be read whole either way.
_MOST_PACKED, _LARGE = 200, 2**30


def memory_group(arrays: Mapping[str, ArrayLike]) -> ArrayGroup:
    """Returns arrays in memory as a group; they are not copied.

    Raises:
        DataError: something is no array.
    """
    given = {name: as_array(array, f"the data: {name!r}") for name, array in arrays.items()}
    return ArrayGroup("the data", {name: in_memory(array, "the data") for name, array in given.items()})


def in_memory(array: Array, place: str, files: tuple[Path, ...] = ()) -> LazyArray:
    """Returns an array in memory."""
    return LazyArray(place, array.shape, array.dtype, lambda region: array[region], files=files)


def open_npy(path: Path, _: Optional[FileCache] = None) -> LazyArray:
    """Opens a ``.npy`` file.

    Raises:
        DataError: it cannot be read.
    """
    with opened(path) as file:
        if file.read(2) == b"PK":
            raise DataError(f"{path} is an archive of arrays", remedy="name it .npz, or save a single array")
        file.seek(0)
        shape, fortran, dtype = _header(file, str(path))
        offset = file.tell()
    expected = offset + _nbytes(shape, dtype)
    size = path.stat().st_size
    if size < expected:
        raise DataError(f"{path} cannot be read: it is cut off, {size} of {expected} bytes are there")
    # A Fortran array is the C array of its axes in reverse.
    stored_shape = shape[::-1] if fortran else shape

    def read(region: Region) -> Array:
        part = region[::-1] if fortran else region
        if not part:
            return np.array(np.memmap(path, dtype, "r", offset, ())[()])
        row = _nbytes(stored_shape[1:], dtype)
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

    return LazyArray(str(path), shape, dtype, read, files=(path,))


def open_npz(path: Path, kept: FileCache) -> ArrayGroup:
    """Opens an ``.npz`` archive. Where all its arrays can be kept they are read together, when one is asked for.

    Raises:
        DataError: it cannot be read; its arrays could be kept, but are more than this machine's memory.
    """
    with _archive(path, kept.open(path)) as archive:
        headers = _headers(path, archive)
    total, memory = _total(headers), machine_memory()
    if memory is not None and memory < total <= kept.limit:
        raise DataError(
            f"{path} holds {total / 2**30:.1f} GiB, more than the memory of this machine, and an archive is read whole",
            remedy="save its arrays as .npy files in a directory, or as HDF5",
        )
    return ArrayGroup(path.name, {name: _in_archive(path, name, headers, kept) for name in headers})


def _in_archive(path: Path, name: str, headers: Mapping[str, Header], kept: FileCache) -> LazyArray:
    def load() -> Array:
        with _archive(path, kept.take(path)) as archive:
            wanted = headers if _total(headers) <= kept.limit else {name: headers[name]}
            arrays = {other: _read_member(path, archive, other, header) for other, header in wanted.items()}
        for other, array in arrays.items():
            kept.keep((path, other), array)
        return arrays[name]

    shape, _, dtype = headers[name]
    return LazyArray(str(path), shape, dtype, lambda region: kept.get((path, name), load)[region], files=(path,))


def _total(headers: Mapping[str, Header]) -> int:
    return sum(_nbytes(shape, dtype) for shape, _, dtype in headers.values())


@contextmanager
def _archive(path: Path, file: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    with file:
        if file.read(6) == b"\x93NUMPY":
            raise DataError(f"{path} holds a single array; expected an .npz file with one per name")
        file.seek(0)
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # it raises whatever it stumbles over
            raise DataError(
                f"{path} cannot be read: {_reason(error)}", remedy="copy it again, or save it with numpy.savez"
            ) from error
        with archive:
            yield archive


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, Header]:
    """Returns the header of every array of an archive."""
    found: dict[str, Header] = {}
    for info in archive.infolist():
        place = f"{path}: {info.filename}"
        name = info.filename[:-4] if info.filename.endswith(".npy") else info.filename
        if name in found:
            raise DataError(f"{path} holds two arrays named {name!r}", remedy="leave one out")
        if info.flag_bits & 1:
            raise DataError(f"{place} is encrypted", remedy="save it without a password, with numpy.savez")
        try:
            content = archive.open(info)
        except Exception as error:  # it raises whatever it stumbles over
            raise DataError(f"{place} cannot be read: {_reason(error)}") from error
        with content:
            found[name] = shape, _, dtype = _header(content, place)
        size = _nbytes(shape, dtype)
        if info.file_size < size:
            raise DataError(f"{place} is cut off: {info.file_size} bytes are there, its array has {size}")
        if size > max(_LARGE, _MOST_PACKED * info.compress_size):
            raise DataError(
                f"{place} holds {size / 2**30:.1f} GiB packed into {info.compress_size / 2**20:.1f} MiB, and is read whole; "
                "if that is right, save it as .npy or HDF5, which are read piece by piece"
            )
    return found


def _read_member(path: Path, archive: zipfile.ZipFile, name: str, header: Header) -> Array:
    """Reads an array of an archive whose header was looked at before."""
    file = f"{name}.npy"
    try:
        with archive.open(file if file in archive.NameToInfo else name) as content:
            array: Array = np.lib.format.read_array(content, allow_pickle=False)
    except Exception as error:  # numpy and zipfile raise whatever they stumble over, MemoryError included
        raise DataError(f"{path} cannot be read: {name}: {_reason(error)}") from error
    if (array.shape, array.dtype) != (header[0], header[2]):
        raise DataError(f"{path} cannot be read: {name} has changed since it was opened")
    return array


def _header(file: IO[bytes], place: str) -> Header:
    """Reads the header of a ``.npy`` file: shape, whether it is in Fortran order, dtype.

    Raises:
        DataError: it is none, or not one of an array of numbers that could be.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"format {version[0]}.{version[1]} of .npy is not known; save it with numpy.save")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote, and of dtypes that will go
            shape, fortran, dtype = readers[version](file)
    except (
        Exception
    ) as error:  # numpy parses Python there, which raises whatever it stumbles over, MemoryError included
        raise DataError(f"{place} cannot be read: {_reason(error)}") from error
    if dtype.hasobject:
        raise DataError(
            f"{place} holds Python objects, not numbers, which are not loaded", remedy="save an array of numbers"
        )
    if dtype.kind not in _NUMBERS and not (dtype.kind in _TEXT and dtype.itemsize <= _LONGEST_TEXT):
        raise DataError(f"{place} holds {dtype} values, not numbers", remedy="save one array of numbers per name")
    if any(isinstance(size, bool) or size < 0 for size in shape) or len(shape) > _MOST_AXES:
        raise DataError(f"{place} cannot be read: {_shortened(str(list(shape)))} is no shape of an array")
    if _nbytes(shape, dtype) > np.iinfo(np.int64).max or any(size > np.iinfo(np.int64).max for size in shape):
        raise DataError(
            f"{place} cannot be read: no machine holds an array of the shape {_shortened(str(list(shape)))}"
        )
    return tuple(shape), bool(fortran), dtype


_MOST_AXES = 32  # of arrays in numpy 1


def _nbytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Returns what an array takes; numpy's product would wrap around."""
    return int(dtype.itemsize) * math.prod(shape)


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"it does not fit into memory{f' ({error})' if str(error) else ''}"
    return _shortened(str(error).partition("\n")[0]) or type(error).__name__


def _shortened(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:120]}...{text[-20:]}"


NPY = ArrayFormat(
    title=".npy", suffixes=(".npy",), streamed=(".npy",), axes=(), library=None, open=open_npy, holds_sample=False
)
NPZ = GroupFormat(title=".npz", suffixes=(".npz",), streamed=(), axes=(), library=None, open=open_npz)
