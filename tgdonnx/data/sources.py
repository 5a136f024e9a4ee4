"""Where data may lie, and the groups in it; the formats are those of `tgdonnx.data.formats`.

- a mapping of names to arrays, or a file that holds several arrays: one group;
- what gives such mappings, or arrays in order, one after the other: a group per batch, see `tgdonnx.data.batches`;
- a directory of such files: a group per file;
- a directory of files with an array each, named after it: one group;
- a directory with one sub-directory per array: files with a sample or an array each, or sub-directories with a series each.
  What has the same name, without suffix, is a group. A sub-directory with the files of one series is one group itself.

Files whose names begin with a dot do not count. Other files and directories that are no data are left alone and named in
the remarks.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

from tgdonnx.data.array_likes import ArrayLike, Batch, as_array
from tgdonnx.data.arrays import in_memory, memory_group
from tgdonnx.data.batches import read_batches, remark_on
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.format import ArrayFormat, Format, GroupFormat
from tgdonnx.data.formats import describe_arrays, describe_sources, format_of, holds_sample, series_in, suffix_of
from tgdonnx.data.images import IMAGES, OTHER_SUFFIXES
from tgdonnx.data.lazy_arrays import ArrayGroup, LazyArray
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.nearby import meant_by, one_up
from tgdonnx.files.regular import require_regular


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        where: what it is, for messages.
        groups: at least one, in order of their names.
        path: where it lies; None in memory.
        remarks: what is worth knowing.
        hashes: the SHA-256 of its files, so far as they were read for other reasons.
        classes: names of what the target counts, in order; none where the data does not say.
        strata: of every group its class, of which a split takes a like share; none where groups have none.
        problems: what is wrong with the classes, which keeps nobody from looking at what else is.
    """

    where: str
    groups: tuple[ArrayGroup, ...]
    path: Optional[Path] = None
    remarks: tuple[str, ...] = ()
    hashes: Mapping[Path, str] = field(default_factory=dict, repr=False)
    classes: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    problems: tuple[DataError, ...] = ()


DataSource = Union[StrPath, Mapping[str, ArrayLike], Iterable[Batch], Source]


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
    if not isinstance(source, (str, os.PathLike)):
        groups = read_batches(source)
        return Source("the data", groups, remarks=(remark_on(groups),))
    path = Path(source)
    with told(path):
        if path.is_dir():
            return _open_directory(path)
        if path.exists():
            _require_regular(path)
        found = format_of(path)
        if isinstance(found, GroupFormat):
            kept = FileCache(math.inf)  # all the data there is
            return Source(str(path), (found.open(path, kept),), path, hashes=kept.hashes)
        if path.exists():
            raise DataError(f"{path}: expected {describe_sources()}")
        nothing = f"{path} does not exist{_leads_nowhere(path)}"
        raise DataError(f"{nothing}{meant_by(path) or f'; expected {describe_sources()}'}")


def held(source: DataSource) -> DataSource:
    """Returns a source that can be opened again and again: batches that are given one after the other are read.

    Raises:
        DataError: see `tgdonnx.data.batches`.
    """
    return source if isinstance(source, (str, os.PathLike, Mapping)) else open_source(source)


@contextmanager
def told(path: Path) -> Iterator[None]:
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


def open_array(source: Union[StrPath, ArrayLike]) -> LazyArray:
    """Opens a single array: one in memory, a file that holds one, or a directory with the files of a series.

    Raises:
        DataError: it is none of these, or cannot be read.
        RuntimeMissingError: the library for a format is not installed.
    """
    if not isinstance(source, (str, os.PathLike)):
        return in_memory(as_array(source, "the data"), "the data")
    path = Path(source)
    with told(path):
        if path.is_dir():
            series = series_in(listing(path))
            if series is not None:
                return series[0].open(path, series[1], FileCache())
        elif path.exists() and isinstance(found := format_of(path), ArrayFormat):
            return open_file(found, path, FileCache())
    state = "" if path.exists() else " does not exist"
    raise DataError(f"{path}{state}: expected {describe_arrays()}")


def _open_directory(path: Path) -> Source:
    entries = listing(path)
    named = [entry for entry in entries if _may_lie_in_a_directory(format_of(entry))]
    files = [entry for entry in named if entry.is_file()]
    for entry in named:
        if not entry.exists():
            raise DataError(f"{entry} is a link that leads nowhere", remedy="remove it, or put the file there")
    formats = {file: format_of(file) for file in files}
    titles = sorted({found.title for found in formats.values() if found is not None})
    if len(titles) > 1:
        raise DataError(f"{path} holds files of several kinds ({', '.join(titles)}); expected one kind")
    if not files:
        directories = [entry for entry in entries if entry.is_dir()]
        return _open_directories(path, directories, [entry for entry in entries if not entry.is_dir()])
    taken = set(files)
    remarks = _ignored(path, [entry for entry in entries if entry not in taken])
    kept = FileCache()
    found = formats[files[0]]
    if isinstance(found, GroupFormat):
        groups = tuple(found.open(file, kept) for file in files)
    else:
        assert isinstance(found, ArrayFormat)
        groups = (ArrayGroup(path.name, {_stem(file): open_file(found, file, kept) for file in _unique(files)}),)
    return Source(str(path), groups, path, remarks, kept.hashes)


def _open_directories(path: Path, directories: list[Path], others: list[Path]) -> Source:
    series = series_in(others)
    samples = [entry for entry in others if holds_sample(format_of(entry)) or (series and entry in series[1])]
    if samples:
        raise DataError(
            f"{path} holds {samples[0].name} itself; expected one directory per array in it, named like the model's inputs "
            f"and target{one_up(path, samples[0].name)}"
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
        raise DataError(f"{path} holds no data; expected {describe_sources()}", remedy=_instead(path))
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
    made = tuple(ArrayGroup(stem, groups[stem]) for stem in sorted(groups))
    return Source(str(path), made, path, _ignored(path, ignored), kept.hashes)


def _instead(path: Path) -> str:
    """Returns what would help where a directory holds pictures that are not read, and nothing else."""
    inside = (file for entry in listing(path) for file in (listing(entry) if entry.is_dir() else [entry]))
    found = sorted({suffix_of(file) for file in inside} & set(OTHER_SUFFIXES))
    if not found:
        return ""
    return (
        f"pictures are read of {', '.join(IMAGES.suffixes)}: save those of {', '.join(found)} as PNG; ImageMagick does "
        f"by: magick mogrify -format png '*{found[0]}'"
    )


def _open_array(directory: Path, kept: FileCache, ignored: list[Path]) -> dict[str, LazyArray]:
    """Opens what a directory holds of one array, by stem."""
    entries = listing(directory)
    own = series_in(entries)
    files: dict[Path, ArrayFormat] = {}
    series: dict[str, LazyArray] = {}
    title = own[0].title if own is not None else ""
    if own is not None:
        series[directory.name] = own[0].open(directory, own[1], kept)
    slices = frozenset(own[1] if own is not None else ())
    for entry in entries:
        if entry.is_dir():
            inside = series_in(listing(entry))
            if inside is not None:
                title = inside[0].title
                series[entry.name] = inside[0].open(entry, inside[1], kept)
            else:
                ignored.append(entry)
        elif isinstance(found := format_of(entry), ArrayFormat):
            files[entry] = found
        elif entry not in slices:
            ignored.append(entry)
    if (files and series) or (slices and len(series) > 1):
        raise DataError(f"{directory} mixes a {title} series with other data; expected one kind")
    return series or {_stem(file): open_file(files[file], file, kept) for file in _unique(list(files))}


def _may_lie_in_a_directory(found: Optional[Format]) -> bool:
    """Whether files of a format lie side by side in a directory of data, each a case, or an array."""
    return isinstance(found, GroupFormat) or (isinstance(found, ArrayFormat) and not found.holds_sample)


def open_file(found: ArrayFormat, path: Path, kept: FileCache) -> LazyArray:
    """Opens a file of a format.

    Raises:
        DataError: it cannot be read.
        RuntimeMissingError: the library for the format is not installed.
    """
    _require_regular(path)
    return found.open(path, kept)


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
            raise DataError(f"{other} and {file.name} go by the same name", remedy="keep one of them")
    return files


def listing(directory: Path) -> list[Path]:
    """Returns what is in a directory, in order of names, without what begins with a dot.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sorted((entry for entry in directory.iterdir() if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{directory} cannot be read: {error.strerror or error}") from error


def _ignored(path: Path, entries: list[Path]) -> tuple[str, ...]:
    if not entries:
        return ()
    names = ", ".join(str(entry.relative_to(path)) for entry in entries[:5])
    return (f"{path}: not read, being no data: {names}{f' and {len(entries) - 5} more' if len(entries) > 5 else ''}",)


def _stem(path: Path) -> str:
    return path.name[: -len(suffix_of(path))]
