"""Hold the external data of a tuned model against the vendor's, though it lies in another file.

A tuned model has its external tensors in a file of its own (`tgdonnx.files.relocation`). Where in that file each of them is
follows from the vendor's model alone, so nothing but that is accepted; then every byte of the file stands for one of the
vendor's, or for none and is zero. A model that says of its external data just what the vendor's says is held against it file by
file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import onnx

from tgdonnx.errors import ModelFileError
from tgdonnx.files.external_data import chunks, resolve_external
from tgdonnx.files.model_file import ModelFile, require_external_data
from tgdonnx.files.relocation import ByteRange, entries_in, entries_of, layout_of, with_entries


@dataclass(frozen=True)
class Aligned:
    """A tuned model in terms of the vendor's.

    Attributes:
        body: the model file, saying of external data what the vendor's says.
        byte_ranges: the vendor's bytes, by his files and offsets, and at their targets the tuned model's bytes for them.
        files: for each of the vendor's files the one that holds the tuned model's bytes for it.
        violations: what is wrong with the places of external data.
    """

    body: bytes = field(repr=False)
    byte_ranges: tuple[ByteRange, ...]
    files: Mapping[str, Path]
    violations: tuple[str, ...]

    def pieces(self) -> Iterator[tuple[str, int, bytes]]:
        """Yields the tuned model's external data piece by piece: the vendor's file and offset, and the bytes."""
        for byte_range in self.byte_ranges:
            offset = byte_range.start
            for piece in chunks(self.files[byte_range.location], byte_range.target, byte_range.length):
                yield byte_range.location, offset, piece
                offset += len(piece)


def align(base: ModelFile, body: bytes, path: Path, wanted: Optional[str]) -> Aligned:
    """Puts a tuned model into terms of the vendor's.

    Args:
        base: the vendor's file.
        body: the tuned file, without its records.
        path: where the tuned file lies.
        wanted: the file that the last record names for external data; None if there is none.

    Raises:
        ModelFileError: external data is missing, or not what it should be, or both models read the same files.
    """
    tuned = ModelFile(path, body, onnx.ModelProto.FromString(body))
    theirs = require_external_data(base)
    ours = {location: resolve_external(path, location) for location in tuned.external_files}
    for mine in ours.values():
        for other in theirs.values():
            if mine.samefile(other):
                raise ModelFileError(
                    f"{base.path} and {path} both read {other}, so there is nothing to compare the tuned weights with",
                    remedy="put the vendor's own model and data into a directory of their own, and compare with that",
                )
    if [tensor.path for tensor in tuned.outside] != [tensor.path for tensor in base.outside]:
        return Aligned(body, (), {}, ())  # the files differ, and that is found by comparing them
    said, own = entries_of(tuned.proto, tuned.outside), entries_of(base.proto, base.outside)
    if not own or said == own:
        return _as_it_is(body, theirs, ours)
    location = tuned.outside[0].location
    layout, expected = layout_of(base.outside), entries_in(location, base.outside)
    violations = [
        f"{tensor.what} has its external data at {dict(said[tensor.path])}, not at {dict(expected[tensor.path])}"
        for tensor in tuned.outside
        if said[tensor.path] != expected[tensor.path]
    ]
    if wanted is not None and wanted != location:
        violations.append(
            f"the external data is in {location!r}, not in {wanted!r} where the record says that it was put"
        )
    if violations:
        return Aligned(with_entries(body, own), (), {}, tuple(violations))
    file = ours[location]
    if file.stat().st_size != layout.size:
        violations.append(f"the external file {location!r} has {file.stat().st_size:,} bytes, not {layout.size:,}")
    else:
        violations += _between(layout.byte_ranges, file, location)
    byte_ranges = layout.byte_ranges if file.stat().st_size >= layout.size else ()
    return Aligned(with_entries(body, own), byte_ranges, dict.fromkeys(theirs, file), tuple(violations))


def _as_it_is(body: bytes, theirs: Mapping[str, Path], ours: Mapping[str, Path]) -> Aligned:
    sizes = {location: path.stat().st_size for location, path in theirs.items()}
    lengths = [
        f"the external file {location!r} has {ours[location].stat().st_size:,} bytes, not {size:,}"
        for location, size in sizes.items()
        if ours[location].stat().st_size != size
    ]
    byte_ranges = () if lengths else tuple(ByteRange(location, 0, size, 0) for location, size in sizes.items())
    return Aligned(body, byte_ranges, ours, tuple(lengths))


def _between(byte_ranges: tuple[ByteRange, ...], file: Path, location: str) -> Iterator[str]:
    """Says where bytes that belong to no tensor are not zero."""
    end = 0
    for byte_range in byte_ranges:
        if any(any(piece) for piece in chunks(file, end, byte_range.target - end)):
            yield f"bytes {end:,} to {byte_range.target:,} of {location!r}, which belong to no tensor, are not zero"
        end = byte_range.target + byte_range.length
