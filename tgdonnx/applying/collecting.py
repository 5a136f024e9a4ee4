"""Where what a model is applied to may lie: one array or file, arrays for all inputs, a directory, or a pattern of paths.

A directory with the files of a DICOM series is one volume. Where a model has several inputs, or files in the directory hold
several arrays or go by the name of an input, it is data as for training (`tgdonnx.data.sources`). Any other directory is looked
through, with those in it: every file with an array, and every directory with a series, is a case of its own, and so is what a
pattern names.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from tgdonnx.data.array_likes import ArrayLike
from tgdonnx.data.arrays import memory_group
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.finding import open_for
from tgdonnx.data.format import ArrayFormat, GroupFormat
from tgdonnx.data.formats import format_of, series_in
from tgdonnx.data.lazy_arrays import ArrayGroup, LazyArray
from tgdonnx.data.options import DataOptions
from tgdonnx.data.single import is_sample_file, sample_file
from tgdonnx.data.sources import Source, listing, open_array, told
from tgdonnx.data.tables import is_table
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import StrPath
from tgdonnx.graphs.tensor_specs import TensorSpec

Applied = Union[StrPath, ArrayLike, Mapping[str, ArrayLike]]
"""What a model is applied to: a path or pattern, an array of any library, or one for the name of each input."""


@dataclass(frozen=True)
class Collected:
    """What was found.

    Attributes:
        source: a group per case, by the name of the case.
        several: whether there may be many, each with a result of its own.
        named: whether arrays go by names of the data, not of the input that each is for.
    """

    source: Source
    several: bool
    named: bool = True


def collect(data: Applied, inputs: Sequence[TensorSpec], reading: DataOptions) -> Collected:
    """Finds what a model is applied to, and reads headers.

    Args:
        data: where it lies.
        inputs: what the model takes.
        reading: which array is for which input.

    Raises:
        DataError: there is nothing, something cannot be read, or single arrays are given to a model of several inputs.
        RuntimeMissingError: the library for a format is not installed.
    """
    if isinstance(data, Mapping):
        return Collected(Source("the data", (memory_group(data),)), several=False)
    if not isinstance(data, (str, os.PathLike)):
        _require_one_input(inputs, "an array")
        return _single(open_array(data), inputs)
    path = Path(data)
    with told(path):
        if is_pattern(data):
            return _files(path, _matching(path), inputs)
        if path.is_dir():
            return _directory(path, inputs, reading)
        if isinstance(format_of(path), ArrayFormat) or not path.exists():
            _require_one_input(inputs, str(path))
            return _single(open_array(path), inputs)
        source = open_for(path, inputs, reading)
    return Collected(source, several=is_table(path) or len(source.groups) > 1)


def is_pattern(data: Applied) -> bool:
    """Whether data is a pattern of paths, and no path that is there."""
    if not isinstance(data, (str, os.PathLike)):
        return False
    there = os.path.exists(data)  # noqa: PTH110  # it does not raise, whatever the text
    return not there and glob.has_magic(os.fspath(data))


def root_of(path: Path) -> Path:
    """Returns the directory that what a pattern names lies in: as much of it as has no wildcard."""
    parts = list(path.parts)
    while parts and glob.has_magic(os.path.join(*parts)):  # noqa: PTH118  # parts of a path, put together again
        parts.pop()
    return Path(*parts)


def _single(stored: LazyArray, inputs: Sequence[TensorSpec]) -> Collected:
    group = ArrayGroup(Path(stored.place).name, {inputs[0].name: stored})
    return Collected(Source(stored.place, (group,)), several=False, named=False)


def _require_one_input(inputs: Sequence[TensorSpec], what: str) -> None:
    if len(inputs) > 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"the model takes {len(inputs)} inputs ({names}), and {what} is one array",
            remedy="give an array for each by its name: an .npz or HDF5 file, or a directory with one of files per input",
        )


def _directory(path: Path, inputs: Sequence[TensorSpec], reading: DataOptions) -> Collected:
    entries = listing(path)
    if series_in(entries) is not None and len(inputs) == 1:
        return _single(open_array(path), inputs)
    names = {*reading.map, *(spec.name for spec in inputs)}
    named = any(_stem(entry) in names or isinstance(format_of(entry), GroupFormat) for entry in entries)
    if len(inputs) > 1 or named:
        source = open_for(path, inputs, reading)
        return Collected(source, several=len(source.groups) > 1 or any(entry.is_dir() for entry in entries))
    return _files(path, _below(path), inputs)


def _stem(entry: Path) -> str:
    found = format_of(entry)
    suffix = next((each for each in (found.suffixes if found else ()) if entry.name.lower().endswith(each)), "")
    return entry.name[: len(entry.name) - len(suffix)]


def _files(root: Path, paths: Iterable[Path], inputs: Sequence[TensorSpec]) -> Collected:
    """Opens files, and directories of series, each as a case."""
    _require_one_input(inputs, f"every file of {root}")
    kept, start, groups = FileCache(), root if root.is_dir() else root_of(root), []
    for path in paths:
        stored = open_array(path) if path.is_dir() else sample_file(path, kept)
        groups.append(ArrayGroup(str(path.relative_to(start)), {inputs[0].name: stored}))
    if not groups:
        raise DataError(f"{root} holds no picture, array or volume to apply the model to")
    return Collected(Source(str(root), tuple(groups), hashes=kept.hashes), several=True, named=False)


def _below(directory: Path) -> Iterator[Path]:
    entries = listing(directory)
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            if series_in(listing(entry)) is not None:
                yield entry
            else:
                yield from _below(entry)
        elif is_sample_file(entry):
            yield entry


def _matching(pattern: Path) -> Iterator[Path]:
    for name in sorted(glob.glob(str(pattern), recursive=True)):  # noqa: PTH207  # an absolute pattern is one for it alone
        path = Path(name)
        if is_sample_file(path) or (path.is_dir() and series_in(listing(path)) is not None):
            yield path
