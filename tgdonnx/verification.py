"""Prove that a tuned file is the vendor's file with other values in retrained filters, or list what else differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx import wire
from tgdonnx.errors import ModelFileError
from tgdonnx.layers import Parameter, open_network
from tgdonnx.masked import read_masked
from tgdonnx.modelfile import ModelFile, StrPath, load_model, require_external_data
from tgdonnx.provenance import earlier_rounds, read_record, record_key, union

_MOST_VIOLATIONS = 20


@dataclass(frozen=True)
class Changed:
    """The rows of a tensor in which any value differs.

    Attributes:
        name: the tensor, by its name in the vendor's file.
        filters: its rows.
    """

    name: str
    filters: tuple[int, ...]


@dataclass(frozen=True)
class VerifyReport:
    """What differs.

    Attributes:
        ok: whether nothing but retrained filters changed.
        changed: the tensors with retrained filters that changed.
        violations: everything else that differs, at most 20 of them.
        witness: what says which filters were to be retrained.
    """

    ok: bool
    changed: tuple[Changed, ...]
    violations: tuple[str, ...]
    witness: str


def verify(base: StrPath, tuned: StrPath, *, masked: Optional[StrPath] = None) -> VerifyReport:
    """Compares a tuned file with the vendor's, byte by byte.

    Args:
        base: the vendor's file.
        tuned: the file that should be a tuned version of it.
        masked: the masked model that says which filters may differ; without it, the record in the tuned file does.

    Raises:
        ModelFileError: a file is no model, or external data is missing.
        MaskedModelError: ``masked`` is no masked model.
    """
    before, after = load_model(base), load_model(tuned)
    require_external_data(before)
    if masked is not None:
        witness = read_masked(masked)
        if witness.base.sha256 != before.sha256:
            return VerifyReport(False, (), (f"{masked} is the masked model of another file than {base}",), str(masked))
        masks, source = witness.masks, str(masked)
    else:
        recorded = _recorded(before, after)
        if recorded is None and before.data != after.data:
            reason = f"{tuned} has no record of what was retrained from {base}; name the masked model with --masked"
            return VerifyReport(False, (), (reason, *_differences(before.proto, after.proto)), "none")
        masks, rounds = recorded or ({}, 1)
        source = "the record in the tuned file" if rounds == 1 else f"the records of {rounds} rounds in the tuned file"
    externals = {location: _read_external(after.path, location) for location in before.external_files}
    lengths = [
        f"the external file {location!r} has {len(content[0]):,} bytes, not {size:,}"
        for location, content in externals.items()
        if len(content[0]) != (size := (before.path.parent / location).stat().st_size)
    ]
    if lengths:
        return VerifyReport(False, (), tuple(lengths), source)
    comparison = compare(before, after.data, masks, externals)
    return VerifyReport(comparison.ok, comparison.changed, comparison.violations, source)


@dataclass(frozen=True)
class Comparison:
    """As `VerifyReport`, without the witness."""

    changed: tuple[Changed, ...]
    violations: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing but retrained filters changed."""
        return not self.violations


def compare(
    base: ModelFile,
    tuned: bytes,
    masks: Mapping[str, NDArray[np.float32]],
    external: Mapping[str, Mapping[int, bytes]],
) -> Comparison:
    """Compares bytes with the vendor's file.

    Args:
        base: the vendor's file.
        tuned: the bytes of the tuned file.
        masks: for names of tensors the retrain mask; tensors that are not named must not differ.
        external: for the files with external data, what the tuned ones hold, as pieces at offsets.
    """
    body = wire.remove_fields(tuned, graph=lambda *_: False, model=_is_record_since(base.proto, tuned))
    if len(body) != len(base.data):
        differences = _differences(base.proto, onnx.ModelProto.FromString(tuned))
        return Comparison((), (f"the file has {len(body) - len(base.data):+,} bytes besides its record", *differences))
    network = open_network(base)
    parameters = {name: network.stored_parameters[name] for name in masks}
    changed: dict[str, set[int]] = {}
    violations: list[str] = []
    places = _places(base, parameters)
    for piece, old, new in _pieces(base, body, external):
        differing = np.flatnonzero(np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8)) + piece.start
        for parameter, spans, first in places.get(piece.file, ()):
            for span in spans:
                inside = (differing >= span.start) & (differing < span.end)
                elements = np.unique((differing[inside] - span.start) // parameter.itemsize) + first
                differing = differing[~inside]
                first += len(span) // parameter.itemsize
                rows, stray = _sort_out(
                    parameter, network.filter_index(parameter.name), masks[parameter.name], elements
                )
                changed.setdefault(parameter.name, set()).update(rows)
                violations += stray
        violations += [_name_place(base, piece.file, int(offset)) for offset in differing[:_MOST_VIOLATIONS]]
    ordered = tuple(Changed(p, tuple(sorted(changed[p]))) for p in parameters if changed.get(p))
    return Comparison(ordered, tuple(dict.fromkeys(violations))[:_MOST_VIOLATIONS])


@dataclass(frozen=True)
class _Piece:
    """A stretch of a file; None is the model itself."""

    file: Optional[str]
    start: int


def _pieces(
    base: ModelFile, body: bytes, external: Mapping[str, Mapping[int, bytes]]
) -> Iterator[tuple[_Piece, bytes, bytes]]:
    yield _Piece(None, 0), base.data, body
    for location, contents in external.items():
        with (base.path.parent / location).open("rb") as file:
            for offset, content in contents.items():
                file.seek(offset)
                old = file.read(len(content))
                yield _Piece(location, offset), old, content


def _places(
    base: ModelFile, parameters: Mapping[str, Parameter]
) -> dict[Optional[str], list[tuple[Parameter, list[wire.Span], int]]]:
    """Returns for each file the tensors in it, with the spans of their elements."""
    spans = wire.locate(base.data, [p.path for p in parameters.values()])
    places: dict[Optional[str], list[tuple[Parameter, list[wire.Span], int]]] = {}
    for p in parameters.values():
        if isinstance(p.tensor, ir.ExternalTensor):
            start = p.tensor.offset or 0
            place = [wire.Span(start, start + math.prod(p.shape) * p.itemsize)]
            places.setdefault(str(p.tensor.location), []).append((p, place, 0))
        else:
            place = wire.locate_elements(base.data, spans[p.path], p.itemsize)
            places.setdefault(None, []).append((p, place, 0))
    return places


def _sort_out(
    parameter: Parameter, owner: NDArray[np.int64], mask: NDArray[np.float32], elements: NDArray[np.int64]
) -> tuple[set[int], list[str]]:
    """Sorts elements that differ into filters that may, and violations."""
    allowed = np.broadcast_to(mask == 1, parameter.shape).reshape(-1)[elements]
    rows = np.broadcast_to(owner, parameter.shape).reshape(-1)[elements]
    frozen = np.unique(rows[~allowed])
    stray = [f"frozen values of filter {m} of {parameter.name!r} changed" for m in frozen[:_MOST_VIOLATIONS]]
    return {int(m) for m in rows[allowed]}, stray


def _read_external(tuned: Path, location: str) -> dict[int, bytes]:
    path = tuned.parent / location
    if not path.is_file():
        raise ModelFileError(f"{tuned} keeps weights in {location!r}, which is not in {tuned.parent}")
    return {0: path.read_bytes()}


def _recorded(base: ModelFile, tuned: ModelFile) -> Optional[tuple[dict[str, NDArray[np.float32]], int]]:
    """Returns the masks of the records in the tuned file that follow those of this base, all together, and their number.

    None if there are none, or the first is of another base. Of the files in between nothing is left, so that each round
    started from what the one before wrote is what the records say.
    """
    texts = {entry.key: entry.value for entry in tuned.proto.metadata_props}
    keys = [record_key(number) for number in _later_rounds(base.proto, texts)]
    if not keys:
        return None
    network = open_network(base)
    masks: dict[str, NDArray[np.float32]] = {}
    try:
        for key in keys:
            sha256, trained = read_record(texts[key], network)
            if key == keys[0] and sha256 != base.sha256:
                return None
            masks = union(masks, trained)
    except ValueError:
        return None  # damaged: as good as none
    return masks, len(keys)


def _later_rounds(base: onnx.ModelProto, keys: Collection[str]) -> Iterator[int]:
    """Yields the numbers of the rounds that a base has been through since, by the metadata keys of the tuned file."""
    number = 1 + earlier_rounds(base)
    while record_key(number) in keys:
        yield number
        number += 1


def _is_record_since(base: onnx.ModelProto, tuned: bytes) -> Callable[[wire.Field, wire.Buffer], bool]:
    """Returns what tells the records of the rounds that follow those of a base."""
    texts = [_key(field, tuned) for field in wire.fields(tuned, wire.Span(0, len(tuned)))]
    records = {record_key(number) for number in _later_rounds(base, [key for key in texts if key is not None])}
    return lambda field, data: _key(field, data) in records


def _key(field: wire.Field, data: wire.Buffer) -> Optional[str]:
    """Returns the key of a field that is metadata."""
    if field.number != wire.METADATA_PROPS:
        return None
    inner = wire.fields(data, wire.Span(field.value, field.end))
    keys = [bytes(data[f.value : f.end]).decode("utf-8", "replace") for f in inner if f.number == wire.ENTRY_KEY]
    return keys[-1] if keys else None


def _name_place(base: ModelFile, file: Optional[str], offset: int) -> str:
    """Says in words what lies at a byte of the vendor's file."""
    if file is not None:
        return f"byte {offset:,} of {file!r} changed, outside the retrained filters"
    graph_start, steps = 0, []
    for field in wire.fields(base.data, wire.Span(0, len(base.data))):
        if field.value <= offset < field.end:
            steps.append((base.proto.DESCRIPTOR, field))
            graph_start = field.value
            break
    if not steps or steps[0][1].number != wire.GRAPH:
        name = base.proto.DESCRIPTOR.fields_by_number[steps[0][1].number].name if steps else "the structure of the file"
        return f"{name} of the model changed"
    graph = base.proto.graph
    seen: dict[int, int] = {}
    for field in wire.fields(base.data, wire.Span(graph_start, steps[0][1].end)):
        index = seen[field.number] = seen.get(field.number, -1) + 1
        if field.start <= offset < field.end:
            if field.number == wire.INITIALIZER:
                return f"the tensor {graph.initializer[index].name!r} changed, outside the retrained filters"
            if field.number == wire.NODE:
                node = graph.node[index]
                return f"the node {node.name or node.output[0]!r} ({node.op_type}) changed"
            return f"{graph.DESCRIPTOR.fields_by_number[field.number].name} of the graph changed"
    return "the structure of the file changed"


def _differences(before: onnx.ModelProto, after: onnx.ModelProto) -> list[str]:
    """Lists in words where two models differ, for files that do not line up byte by byte."""
    found = []
    for field in before.DESCRIPTOR.fields:
        if field.name not in ("graph", "metadata_props") and getattr(before, field.name) != getattr(after, field.name):
            found.append(f"{field.name} of the model differs")
    old, new = ({tensor.name: tensor for tensor in model.graph.initializer} for model in (before, after))
    found += [f"the tensor {name!r} is missing" for name in old if name not in new]
    found += [f"the tensor {name!r} is new" for name in new if name not in old]
    found += [f"the tensor {name!r} differs" for name in old if name in new and old[name] != new[name]]
    if len(before.graph.node) != len(after.graph.node):
        found.append(f"the graph has {len(after.graph.node)} nodes, not {len(before.graph.node)}")
    else:
        pairs = zip(before.graph.node, after.graph.node)
        found += [f"the node {a.name or a.output[0]!r} ({a.op_type}) differs" for a, b in pairs if a != b]
    return found[:_MOST_VIOLATIONS]
