"""Where data may lie, and the groups in it.

- a mapping of names to arrays, an ``.npz`` or HDF5 file: one group;
- a directory of ``.npz`` or of HDF5 files: a group per file;
- a directory of ``.npy`` or of NIfTI files named after their arrays: one group;
- a directory with one sub-directory per array: pictures, ``.npy``, NIfTI files, or sub-directories with a DICOM series each.
  What has the same name, without suffix, is a group. A sub-directory with the files of one DICOM series is one group itself.

Files whose names begin with a dot do not count. Other files and directories that are no data are left alone and named in
the remarks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import numpy as np

from tgdonnx.data import dicom, images, nifti
from tgdonnx.data.arrays import in_memory, memory_group, open_npy, open_npz
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.hdf5 import open_hdf5
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.regular import require_regular

_HDF5 = (".h5", ".hdf5")
_KINDS = {".npz": "npz", ".npy": "npy", **dict.fromkeys(_HDF5, "HDF5"), **dict.fromkeys(nifti.SUFFIXES, "NIfTI")}
_FORMS = (
    "expected an .npz or HDF5 file, or a directory of .npy, .npz, HDF5 or NIfTI files, or of one directory per array"
)


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        where: what it is, for messages.
        groups: at least one, in order of their names.
        path: where it lies; None in memory.
        remarks: what is worth knowing.
    """

    where: str
    groups: tuple[ArrayGroup, ...]
    path: Optional[Path] = None
    remarks: tuple[str, ...] = ()


DataSource = Union[StrPath, Mapping[str, Array], Source]


def open_source(source: DataSource) -> Source:
    """Opens files and reads their headers; what is open already stays as it is.

    Raises:
        DataError: something cannot be read, is no data, or has no counterpart.
        RuntimeMissingError: the library for a format is not installed.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, Mapping):
        return Source("the data", (memory_group(source),))
    path = Path(source)
    with _told(path):
        if path.is_dir():
            return _open_directory(path)
        suffix = _suffix(path)
        if path.exists():
            _require_regular(path)
        if suffix == ".npz":
            return Source(str(path), (open_npz(path),), path)
        if suffix in _HDF5:
            return Source(str(path), (open_hdf5(path),), path)
        if not path.exists():
            raise DataError(f"{path} does not exist{_leads_nowhere(path)}; {_FORMS}")
        raise DataError(f"{path}: {_FORMS}")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what the system says of paths (no permission, too long, no text at all) into errors of data."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TgdonnxError):
            raise
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, TgdonnxError) or "\0" not in str(path):
            raise
        raise DataError(f"{str(path)!r} is no path: {error}") from error


def _leads_nowhere(path: Path) -> str:
    return ": it is a link that leads nowhere" if path.is_symlink() else ""


def open_array(source: Union[StrPath, Array]) -> LazyArray:
    """Opens a single array: one of numpy, a ``.npy`` or NIfTI file, a picture, or a directory with the files of a DICOM series.

    Raises:
        DataError: it is none of these, or cannot be read.
        RuntimeMissingError: the library for a format is not installed.
    """
    if isinstance(source, np.ndarray):
        return in_memory(source, "the data")
    path = Path(source)
    with _told(path):
        if path.is_dir():
            series = [entry for entry in _listing(path) if entry.is_file() and dicom.is_dicom(entry)]
            if series:
                return dicom.open_series(path, series, FileCache())
        elif path.exists() and _suffix(path) in (".npy", *nifti.SUFFIXES, *images.SUFFIXES):
            return _open_single(path, FileCache())
    state = "" if path.exists() else " does not exist"
    raise DataError(f"{path}{state}: expected a .npy or NIfTI file, a picture, or a directory with a DICOM series")


def _open_directory(path: Path) -> Source:
    entries = _listing(path)
    named = [entry for entry in entries if _suffix(entry) in _KINDS]
    files = [entry for entry in named if entry.is_file()]
    for entry in named:
        if not entry.exists():
            raise DataError(f"{entry} is a link that leads nowhere; remove it, or put the file there")
    kinds = sorted({_KINDS[_suffix(file)] for file in files})
    if len(kinds) > 1:
        raise DataError(f"{path} holds files of several kinds ({', '.join(kinds)}); expected one kind")
    if not files:
        directories = [entry for entry in entries if entry.is_dir()]
        return _open_directories(path, directories, [entry for entry in entries if not entry.is_dir()])
    taken = set(files)
    remarks = _ignored(path, [entry for entry in entries if entry not in taken])
    kept = FileCache()
    if kinds == ["npz"]:
        groups = tuple(open_npz(file, kept) for file in files)
    elif kinds == ["HDF5"]:
        groups = tuple(open_hdf5(file) for file in files)
    else:
        groups = (ArrayGroup(path.name, {_stem(file): _open_single(file, kept) for file in _unique(files)}),)
    return Source(str(path), groups, path, remarks)


def _open_directories(path: Path, directories: list[Path], others: list[Path]) -> Source:
    pictures = [entry for entry in others if _suffix(entry) in images.SUFFIXES or dicom.is_dicom(entry)]
    if pictures:
        raise DataError(
            f"{path} holds {pictures[0].name} itself; expected one directory per array in it, named like the model's inputs "
            "and target"
        )
    kept = FileCache()
    ignored: list[Path] = list(others)
    arrays: dict[str, dict[str, LazyArray]] = {}
    for directory in directories:
        found = _open_array(directory, kept, ignored)
        if found:
            arrays[directory.name] = found
        else:
            ignored.append(directory)
    if not arrays:
        raise DataError(f"{path} holds no data; {_FORMS}")
    groups: dict[str, dict[str, LazyArray]] = defaultdict(dict)
    # Only one volume per array: then its name is of no account.
    single = all(len(found) == 1 for found in arrays.values())
    for name, found in arrays.items():
        for stem, stored in found.items():
            groups[path.name if single else stem][name] = stored
    for stem in sorted(groups):
        lacking = [name for name in arrays if name not in groups[stem]]
        if lacking:
            have = next(iter(groups[stem].values())).place
            count = sum(len(group) < len(arrays) for group in groups.values())
            more = f" ({count} files without a counterpart)" if count > 1 else ""
            raise DataError(
                f"{path / lacking[0]} has nothing named {stem!r} to go with {have}{more}; files go by their names"
            )
    return Source(str(path), tuple(ArrayGroup(s, groups[s]) for s in sorted(groups)), path, _ignored(path, ignored))


def _open_array(directory: Path, kept: FileCache, ignored: list[Path]) -> dict[str, LazyArray]:
    """Opens what a directory holds of one array, by stem."""
    entries = _listing(directory)
    files, series = [], {}
    slices = {entry: None for entry in entries if entry.is_file() and dicom.is_dicom(entry)}
    if slices:
        series[directory.name] = dicom.open_series(directory, list(slices), kept)
    for entry in entries:
        if entry.is_dir():
            inside = [file for file in _listing(entry) if file.is_file() and dicom.is_dicom(file)]
            if inside:
                series[entry.name] = dicom.open_series(entry, inside, kept)
            else:
                ignored.append(entry)
        elif _suffix(entry) in (*images.SUFFIXES, *nifti.SUFFIXES, ".npy"):
            files.append(entry)
        elif entry not in slices:
            ignored.append(entry)
    if (files and series) or (slices and len(series) > 1):
        raise DataError(f"{directory} mixes a DICOM series with other data; expected one kind")
    return series or {_stem(file): _open_single(file, kept) for file in _unique(files)}


def _open_single(path: Path, kept: FileCache) -> LazyArray:
    _require_regular(path)
    suffix = _suffix(path)
    if suffix == ".npy":
        return open_npy(path)
    return nifti.open_nifti(path, kept) if suffix in nifti.SUFFIXES else images.open_image(path, kept)


def _require_regular(path: Path) -> None:
    # Libraries open files by their names, and would wait for whoever writes into a pipe.
    try:
        require_regular(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _unique(files: list[Path]) -> list[Path]:
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(_stem(file), file)
        if other is not file:
            raise DataError(f"{other} and {file.name} go by the same name; keep one of them")
    return files


def _listing(directory: Path) -> list[Path]:
    try:
        return sorted((entry for entry in directory.iterdir() if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{directory} cannot be read: {error.strerror or error}") from error


def _ignored(path: Path, entries: list[Path]) -> tuple[str, ...]:
    if not entries:
        return ()
    names = ", ".join(str(entry.relative_to(path)) for entry in entries[:5])
    return (f"{path}: not read, being no data: {names}{f' and {len(entries) - 5} more' if len(entries) > 5 else ''}",)


def _suffix(path: Path) -> str:
    lower = path.name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else path.suffix.lower()


def _stem(path: Path) -> str:
    return path.name[: -len(_suffix(path))]
