"""Write a model with external data of its own, as a pair: ``tuned.onnx`` and ``tuned.onnx.data``.

A crash leaves either the old model or the new one, each with the data that belongs to it. The data is written first, under a
temporary name, and gets its own before the model is there. Where a pair is overwritten the old model would read the new data in
between; so the new model takes the place of the old one while its data still has the temporary name, and once more when that
has its own. What a crash may leave besides is a hidden file ``.tuned.onnx.data.*.tmp``, which is needed only if the model names
it, and a ``tuned.onnx.data`` without a model.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Optional

from tgdonnx.errors import ModelFileError, OutputError
from tgdonnx.files.access import writing
from tgdonnx.files.external_data import chunks
from tgdonnx.files.leftovers import remove_leftovers, temporary_beside
from tgdonnx.files.model_file import ModelFile, Pieces, load_model, replacing, require_external_data, write_bytes
from tgdonnx.files.relocation import Layout, copy_byte_ranges, layout_of

_NOTHING: Pieces = MappingProxyType({})


def data_of(output: Path) -> Path:
    """Returns the file for the external data of a model that we write."""
    return output.parent / f"{output.name}.data"


def require_data_writable(output: Path, source: ModelFile, *, overwrite: bool = False) -> None:
    """Checks that the external data of a model can be written beside it, before any work is done.

    Args:
        output: the model to write.
        source: the model that it is made from; if that has no external data, the new one will have none.
        overwrite: whether the data of an earlier ``output`` may be replaced. Data of another model never is.

    Raises:
        OutputError: the data cannot be written.
    """
    data = data_of(output)
    if not source.outside or not os.path.lexists(data):
        return
    goes = f"{data} exists, and the external data of {output.name} goes there;"
    if not overwrite:
        raise OutputError(
            f"{goes} pass `overwrite=True` if it is that of an earlier {output.name}, or choose another name"
        )
    if not _refers(output, data):
        raise OutputError(f"{goes} it is not that of an earlier {output.name}: move it away, or choose another name")
    other = model_that_reads(data, but=output)
    if other is not None:
        raise OutputError(f"{goes} {other} keeps weights there, too: choose another name")


def model_that_reads(data: Path, *, but: Optional[Path] = None) -> Optional[Path]:
    """Returns a model in the directory of a file that has it for external data; None if there is none.

    Args:
        data: the file.
        but: a model that does not count.
    """
    for path in sorted(data.parent.glob("*.[oO][nN][nN][xX]")):
        counts = path.is_file() and not path.samefile(data) and not (but is not None and _same(path, but))
        if counts and _mentions(path, [name.encode() for name in _names(data)]) and _refers(path, data):
            return path
    return None


def write_model(
    source: ModelFile, output: Path, make: Callable[[Optional[str]], bytes], *, changes: Pieces = _NOTHING
) -> None:
    """Writes a model, and its external data beside it.

    Args:
        source: the model that it is made from, with the same external tensors.
        output: where to write it; `require_data_writable` says whether that is possible.
        make: gives the bytes of the model for the name of the file with its external data; for None if it has none.
        changes: what is different in the external data, at places in that of ``source``.

    Raises:
        ModelFileError: external data of ``source`` is missing, or not what it should be.
        OutputError: something cannot be written.
    """
    data = data_of(output)
    if not source.outside:
        stale = _is_ours(output) and _refers(output, data) and model_that_reads(data, but=output) is None
        write_bytes(output, make(None))
        if stale:
            data.unlink(missing_ok=True)
        return
    layout, files = layout_of(source.outside), require_external_data(source)
    temporary = temporary_beside(data)
    needed = False  # whether a model names the temporary file
    try:
        with writing(data):
            copy_byte_ranges(layout.byte_ranges, files, temporary, layout.size)
            _write_changes(temporary, layout, changes)
            if not os.path.lexists(data):
                os.replace(temporary, data)
                try:
                    write_bytes(output, make(data.name))
                except BaseException:
                    data.unlink(missing_ok=True)
                    raise
                return
            with replacing(output) as model:
                model.write_bytes(make(temporary.name))
            needed = True
            _take_name(temporary, data)
            write_bytes(output, make(data.name))
            needed = False
            remove_leftovers(data)  # the model names none of those any more
    finally:
        if not needed:
            temporary.unlink(missing_ok=True)


def require_same_model(output: Path, expected: ModelFile) -> None:
    """Checks that a model that was written is, byte by byte, another one, and so is its external data.

    Raises:
        OutputError: it is not, or cannot be read.
    """
    try:
        same = output.read_bytes() == expected.data and all(
            _same_content(output.parent / location, path) for location, path in require_external_data(expected).items()
        )
    except OSError as error:
        raise OutputError(f"{output} cannot be read back: {error.strerror or error}") from error
    if not same:
        raise OutputError(f"{output} is not what was written there", remedy="look at the disk, and write it again")


def _same_content(first: Path, second: Path) -> bool:
    size = first.stat().st_size
    if second.stat().st_size != size:
        return False
    return all(ours == theirs for ours, theirs in zip(chunks(first, 0, size), chunks(second, 0, size)))


def _take_name(temporary: Path, data: Path) -> None:
    """Puts a file in the place of another, so that it can be had by its old name as well, where the file system allows."""
    second = temporary_beside(data)
    try:
        os.link(temporary, second)
    except OSError:
        second = temporary
    try:
        os.replace(second, data)
    except OSError:
        if second != temporary:
            second.unlink(missing_ok=True)
        raise


def _write_changes(path: Path, layout: Layout, changes: Pieces) -> None:
    with path.open("r+b") as file:
        for location, pieces in changes.items():
            own = [byte_range for byte_range in layout.byte_ranges if byte_range.location == location]
            for offset, content in pieces.items():
                byte_range = next(s for s in own if s.start <= offset and offset + len(content) <= s.start + s.length)
                file.seek(byte_range.target + offset - byte_range.start)
                file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _same(first: Path, second: Path) -> bool:
    return second.exists() and first.samefile(second)


def _names(data: Path) -> Iterator[str]:
    """Yields the names by which a file goes in its directory, links included."""
    for entry in os.scandir(data.parent):
        if entry.name == data.name or (entry.is_symlink() and _same(Path(entry.path), data)):
            yield entry.name


def _mentions(path: Path, names: list[bytes]) -> bool:
    """Whether a file has one of several names in it."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(name) >= 0 for name in names)


def _refers(model: Path, data: Path) -> bool:
    """Whether a model has a file for external data."""
    if not model.is_file():
        return False
    try:
        locations = load_model(model).external_files
    except ModelFileError:
        return False
    return any(_same(data, model.parent / location) for location in locations)


def _is_ours(model: Path) -> bool:
    """Whether we wrote a model: it says so in its metadata."""
    if not model.is_file():
        return False
    try:
        return any(entry.key.startswith("tgdonnx.") for entry in load_model(model).proto.metadata_props)
    except ModelFileError:
        return False
