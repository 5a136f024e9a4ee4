"""Compare the bytes of a tuned file with those of the vendor's: what moved, and what of that may not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.files import wire
from tgdonnx.files.external_data import chunks
from tgdonnx.files.model_file import ModelFile, Pieces, require_external_data
from tgdonnx.layers import Network, Parameter
from tgdonnx.overwriting import Overwritten, overwrite_values
from tgdonnx.verifying.alignment import align
from tgdonnx.verifying.allowed_changes import (
    Allowed,
    is_record_since,
    named_data,
    with_values,
)
from tgdonnx.verifying.wording import differences, name_place

MOST_VIOLATIONS = 20


@dataclass(frozen=True)
class Changed:
    """The rows of a tensor in which any value differs from the vendor's.

    Attributes:
        name: the tensor, by its name in the vendor's file.
        filters: its rows.
    """

    name: str
    filters: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """As `VerifyReport`, without the evidence."""

    changed: tuple[Changed, ...]
    violations: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing but retrained filters changed."""
        return not self.violations


def compare_files(network: Network, after: ModelFile, allowed: Allowed) -> Comparison:
    """Compares a tuned file with the vendor's, and their external data.

    Args:
        network: of the vendor's file.
        after: the tuned file.
        allowed: what may have other values, and what must have certain ones.

    Raises:
        ModelFileError: external data of the tuned file is missing, or is that of the vendor's itself.
    """
    before = network.file
    body = wire.remove_fields(after.data, graph=lambda *_: False, model=is_record_since(before.proto))
    aligned = align(before, body, after.path, named_data(before, after))
    comparison = compare(network, aligned.body, allowed, aligned.pieces())
    violations = (*aligned.violations, *comparison.violations)
    return Comparison(comparison.changed, violations[:MOST_VIOLATIONS])


def compare(network: Network, body: bytes, allowed: Allowed, external: Iterable[tuple[str, int, bytes]]) -> Comparison:
    """Compares bytes with the vendor's file.

    Args:
        network: of the vendor's file.
        body: the bytes of the tuned file, without its records, and with the vendor's places of external data.
        allowed: what may have other values, and what must have certain ones.
        external: what the tuned model has for the vendor's external data: his file, an offset, and bytes.
    """
    base = network.file
    if len(body) != len(base.data):
        where = differences(base.proto, onnx.ModelProto.FromString(body))[:MOST_VIOLATIONS]
        return Comparison((), (f"the file has {len(body) - len(base.data):+,} bytes besides its record", *where))
    parameters = {name: network.stored_parameters[name] for name in dict.fromkeys((*allowed.masks, *allowed.sets))}
    given = {parameters[name]: with_values(parameters[name].numpy(), each) for name, each in allowed.sets.items()}
    expected = overwrite_values(base, given) if given else Overwritten(base.data, {})
    changed: dict[str, set[int]] = {}
    violations: list[str] = []
    places = _places(base, parameters)
    for piece, old, new in _pieces(base, body, external):
        wanted = expected.data if piece.file is None else _overlaid(piece, old, expected.external)
        moved = _differing(piece, old, new)
        wrong = moved if wanted is old else _differing(piece, wanted, new)
        if not len(moved) and not len(wrong):
            continue
        for parameter, spans, first in places.get(piece.file, ()):
            owner = np.broadcast_to(network.filter_index(parameter.name), parameter.shape).reshape(-1)
            given_here = allowed.sets.get(parameter.name)
            may_change = _where(allowed.masks.get(parameter.name), parameter)
            is_set = _where(given_here.mask if given_here is not None else None, parameter)
            for span in spans:
                elements, moved = _inside(moved, span, parameter.itemsize, first)
                rows = owner[elements[may_change[elements] | is_set[elements]]]
                changed.setdefault(parameter.name, set()).update(int(m) for m in np.unique(rows))
                elements, wrong = _inside(wrong, span, parameter.itemsize, first)
                violations += _strays(parameter, owner, elements[~may_change[elements]], is_set)
                first += len(span) // parameter.itemsize
        violations += [name_place(base, piece.file, int(offset)) for offset in wrong[:MOST_VIOLATIONS]]
    ordered = tuple(Changed(p, tuple(sorted(changed[p]))) for p in parameters if changed.get(p))
    return Comparison(ordered, tuple(dict.fromkeys(violations))[:MOST_VIOLATIONS])


@dataclass(frozen=True)
class _Piece:
    """A stretch of a file; None is the model itself."""

    file: Optional[str]
    start: int


def _pieces(
    base: ModelFile, body: bytes, external: Iterable[tuple[str, int, bytes]]
) -> Iterator[tuple[_Piece, bytes, bytes]]:
    yield _Piece(None, 0), base.data, body
    files = require_external_data(base)
    for location, offset, content in external:
        yield _Piece(location, offset), b"".join(chunks(files[location], offset, len(content))), content


def _overlaid(piece: _Piece, old: bytes, changes: Pieces) -> bytes:
    """Returns a stretch of an external file with other bytes at some offsets of the file."""
    assert piece.file is not None
    new, end = bytearray(old), piece.start + len(old)
    for offset, content in changes.get(piece.file, {}).items():
        first, last = max(offset, piece.start), min(offset + len(content), end)
        if first < last:
            new[first - piece.start : last - piece.start] = content[first - offset : last - offset]
    return bytes(new) if new != old else old


def _differing(piece: _Piece, old: bytes, new: bytes) -> NDArray[np.int64]:
    """Returns the offsets in the file at which two versions of a stretch of it differ."""
    return np.flatnonzero(np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8)) + piece.start


def _inside(
    offsets: NDArray[np.int64], span: wire.Span, itemsize: int, first: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the elements of a tensor to which bytes belong, its ``first`` at the start of the span, and the other bytes."""
    inside = (offsets >= span.start) & (offsets < span.end)
    return np.unique((offsets[inside] - span.start) // itemsize) + first, offsets[~inside]


def _where(mask: Optional[NDArray[np.float32]], parameter: Parameter) -> NDArray[np.bool_]:
    """Returns for each element of a tensor, in row-major order, whether a mask is 1 there; without a mask it is not."""
    return np.broadcast_to(False if mask is None else mask == 1, parameter.shape).reshape(-1)


def _strays(
    parameter: Parameter, owner: NDArray[np.int64], elements: NDArray[np.int64], is_set: NDArray[np.bool_]
) -> list[str]:
    """Says of elements that differ but do not train what is wrong, filter by filter."""
    frozen, given = (np.unique(owner[elements[is_set[elements] == wanted]]) for wanted in (False, True))
    return [
        *(f"frozen values of filter {m} of {parameter.name!r} changed" for m in frozen[:MOST_VIOLATIONS]),
        *(
            f"values of filter {m} of {parameter.name!r} that were set once, and do not train, are not what was set"
            for m in given[:MOST_VIOLATIONS]
        ),
    ]


def _places(
    base: ModelFile, parameters: Mapping[str, Parameter]
) -> dict[Optional[str], list[tuple[Parameter, list[wire.Span], int]]]:
    """Returns for each file the tensors in it, with the spans of their elements."""
    spans = wire.locate(base.data, [p.path for p in parameters.values()])
    outside = {tensor.path: tensor for tensor in base.outside}
    places: dict[Optional[str], list[tuple[Parameter, list[wire.Span], int]]] = {}
    for p in parameters.values():
        external = outside.get(p.path)
        if external is not None:
            places.setdefault(external.location, []).append((p, [wire.Span(external.offset, external.end)], 0))
        else:
            place = wire.locate_elements(base.data, spans[p.path], p.itemsize)
            places.setdefault(None, []).append((p, place, 0))
    return places
