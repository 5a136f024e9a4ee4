"""Give a model external data of its own: one file beside it, named after it, that nobody else refers to.

A masked or a tuned model never shares external data with the vendor's, nor with another one: what is written for it could
change theirs, and what happens to theirs would change it. ``tuned.onnx`` has all its external tensors in ``tuned.onnx.data``,
also those that did not train: it may be moved anywhere, together with that one file. The price is a copy.

In the model file nothing differs but the entries ``location``, ``offset`` and ``length`` of ``external_data``, which are always
these three, in this order. (``checksum``, which ONNX knows, would be of another file, and the packed weights that ONNX Runtime
may list there would be those from before training.)

In the new file the bytes that tensors need stand in the order of the old files and offsets; those that tensors share stay
shared. Each range begins where it did modulo 64 KiB, so what was aligned to pages for mapping them still is. Between
ranges are zeros, as few as that takes. Of a model with one external file, without gaps of 64 KiB or more, all offsets stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.external_data import Outside, chunks
from tgdonnx.files.tensors import tensor_at

_ALIGNMENT = 2**16  # pages, and what Windows allocates
Entries = Sequence[tuple[str, str]]
"""The entries of ``external_data`` of a tensor, keys and values."""


@dataclass(frozen=True)
class ByteRange:
    """Bytes of an external file that go into the new one, in one piece.

    Attributes:
        location: the file that they are in.
        start: where they begin there.
        length: how many they are.
        target: where they begin in the new file.
    """

    location: str
    start: int
    length: int
    target: int


@dataclass(frozen=True)
class Layout:
    """The new file.

    Attributes:
        byte_ranges: what it holds, in order; zeros between them.
        offsets: for every external tensor where it begins, by the path of the tensor.
    """

    byte_ranges: tuple[ByteRange, ...]
    offsets: Mapping[wire.FieldPath, int] = field(repr=False)

    @property
    def size(self) -> int:
        """The length of the file."""
        return max((byte_range.target + byte_range.length for byte_range in self.byte_ranges), default=0)


def layout_of(tensors: Iterable[Outside]) -> Layout:
    """Returns how a file of their own holds external tensors; of tensors that lie in such a file, how it does already."""
    byte_ranges: list[ByteRange] = []
    offsets: dict[wire.FieldPath, int] = {}
    for tensor in sorted(tensors, key=lambda each: (each.location, each.offset, each.length)):
        last = byte_ranges[-1] if byte_ranges else ByteRange("", 0, 0, 0)
        end = last.start + last.length
        if byte_ranges and last.location == tensor.location and tensor.offset <= end:
            byte_ranges[-1] = ByteRange(last.location, last.start, max(end, tensor.end) - last.start, last.target)
        else:
            free = last.target + last.length
            target = free + (tensor.offset - free) % _ALIGNMENT
            byte_ranges.append(ByteRange(tensor.location, tensor.offset, tensor.length, target))
        offsets[tensor.path] = byte_ranges[-1].target + tensor.offset - byte_ranges[-1].start
    return Layout(tuple(byte_ranges), offsets)


def entries_of(model: onnx.ModelProto, tensors: Iterable[Outside]) -> dict[wire.FieldPath, Entries]:
    """Returns what a model says of its external tensors, by their paths."""
    return {
        tensor.path: [(str(entry.key), str(entry.value)) for entry in tensor_at(model, tensor.path).external_data]
        for tensor in tensors
    }


def entries_in(location: str, tensors: Iterable[Outside]) -> dict[wire.FieldPath, Entries]:
    """Returns what a model says of its external tensors that has them in one file of its own."""
    offsets = layout_of(tensors).offsets
    return {
        tensor.path: [
            ("location", location),
            ("offset", str(offsets[tensor.path])),
            ("length", str(tensor.length)),
        ]
        for tensor in tensors
    }


def with_entries(data: bytes, entries: Mapping[wire.FieldPath, Entries]) -> bytes:
    """Returns a model file that says something else of its external tensors; every other byte stays.

    Args:
        data: the file.
        entries: for the path of every external tensor what it shall say.

    Raises:
        ModelFileError: it is written in a way that does not allow that; see `wire.substitute`.
    """
    if not entries:
        return data
    spans = wire.locate(data, entries)
    return wire.substitute(data, {path: _tensor(data, spans[path], new) for path, new in entries.items()})


def _tensor(data: bytes, span: wire.Span, entries: Entries) -> bytes:
    """Returns a TensorProto with other entries in the place of the first that it has."""
    model = onnx.TensorProto()
    for key, value in entries:
        model.external_data.add(key=key, value=value)
    new: bytes = model.SerializeToString()
    out = bytearray()
    for each in wire.fields(data, span):
        if each.number != wire.TENSOR_EXTERNAL_DATA:
            out += data[each.start : each.end]
        else:
            out += new
            new = b""
    return bytes(out + new)


def require_reversible(data: bytes, model: onnx.ModelProto, tensors: Sequence[Outside], path: Path) -> None:
    """Checks that a file can be had back, byte for byte, after it got external data of its own.

    Raises:
        ModelFileError: it cannot, because it is written in an unusual way.
    """
    moved = with_entries(data, entries_in("x", tensors))
    if with_entries(moved, entries_of(model, tensors)) != data:
        raise ModelFileError(
            f"{path} is written in a way that cannot be kept byte by byte when its external data gets a name of its own",
            remedy="save it again with onnx.save",
        )


def copy_byte_ranges(byte_ranges: Iterable[ByteRange], files: Mapping[str, Path], target: Path, size: int) -> None:
    """Writes the external data of a model into a file of its own, piece by piece.

    Args:
        byte_ranges: what goes where.
        files: where the files lie that hold it, by their location.
        target: the file to write.
        size: its length.

    Raises:
        ModelFileError: a file ends too early.
        OSError: ``target`` cannot be written.
    """
    with target.open("wb") as out:
        out.truncate(size)
        for byte_range in byte_ranges:
            out.seek(byte_range.target)
            for piece in chunks(files[byte_range.location], byte_range.start, byte_range.length):
                out.write(piece)
