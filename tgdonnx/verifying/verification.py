"""Prove that a tuned file is the vendor's file with other values in retrained filters, or list what else differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.files import wire
from tgdonnx.files.external_data import chunks
from tgdonnx.files.model_file import ModelFile, Pieces, StrPath, load_model, require_external_data
from tgdonnx.layers import Network, Parameter, open_network
from tgdonnx.masked_model import MaskedModel, read_masked
from tgdonnx.overwriting import Overwritten, overwrite_values
from tgdonnx.records import trained_before, union
from tgdonnx.tracing import trace_network
from tgdonnx.verifying.alignment import align
from tgdonnx.verifying.allowed_changes import (
    Allowed,
    Evidence,
    is_record_since,
    masked_evidence,
    named_data,
    recorded_evidence,
    records_are_plain,
    with_values,
)
from tgdonnx.verifying.blends import heard_at_zero
from tgdonnx.verifying.recomputing import FORMS, Form, RoundProof, Verdict, judge

_MOST_VIOLATIONS = 20


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
class VerifyReport:
    """What differs, and what proves that nothing else does.

    Attributes:
        ok: whether nothing but retrained filters changed.
        changed: the tensors with retrained filters that changed, or elements that were set once and kept their value.
        violations: everything else that differs, and what the evidence says that cannot be; at most 20 of them.
        evidence: what says which filters were to be retrained.
        proof: the form of the proof, of several rounds the weakest: ``identical`` (the files are the same), ``recomputed`` (the
            masks were computed again from the vendor's file), ``listed`` (they are those of a list that was given
            independently) or ``recorded`` (in part, they are the evidence's own word); None if there is none.
        rounds: what is proved of each round.
    """

    ok: bool
    changed: tuple[Changed, ...]
    violations: tuple[str, ...]
    evidence: str
    proof: Optional[Form] = None
    rounds: tuple[RoundProof, ...] = ()


def verify(
    base: StrPath,
    tuned: StrPath,
    masked: Optional[StrPath] = None,
    filters: Optional[Mapping[str, Sequence[int]]] = None,
) -> VerifyReport:
    """Compares a tuned file with the vendor's, byte by byte, and what may differ with what follows from the vendor's file.

    Args:
        base: the vendor's file.
        tuned: the file that should be a tuned version of it.
        masked: the masked model that says which filters may differ; without it, the record in the tuned file does.
        filters: for names of weights the filters that were to be retrained, known from elsewhere: what may differ must be that.

    Raises:
        ModelFileError: a file is no model, or external data is missing, or both models read the same external data.
        MaskedModelError: ``masked`` is no masked model.
        SelectionError: ``filters`` names what is not there.
    """
    before, after = load_model(base), load_model(tuned)
    require_external_data(before)
    return verify_files(open_network(before), after, None if masked is None else read_masked(masked), filters)


def verify_files(
    network: Network,
    after: ModelFile,
    masked: Optional[MaskedModel],
    filters: Optional[Mapping[str, Sequence[int]]] = None,
) -> VerifyReport:
    """Does what `verify` does with files that are open; the external data of the vendor's is there.

    Raises:
        TgdonnxError: as `verify`.
    """
    before = network.file
    recorded = recorded_evidence(network, after)
    evidence = recorded if masked is None else masked_evidence(network, masked)
    wrong = tuple(dict.fromkeys((*evidence.violations, *recorded.violations)))
    if wrong:
        return VerifyReport(False, (), wrong, evidence.name or "none")
    if not evidence.name and before.data != after.data:
        reason = (
            f"{after.path} has no record of what was retrained from {before.path}; name the masked model with `masked`"
        )
        return VerifyReport(False, (), (reason, *_differences(before.proto, after.proto)), "none")
    comparison = compare_files(network, after, evidence.allowed)
    violations = comparison.violations
    if evidence is not recorded and any(claim.blend == 0 for claim in recorded.claims):
        violations = (*violations, *compare_files(network, after, recorded.allowed).violations)[:_MOST_VIOLATIONS]
    if not violations and not records_are_plain(before.proto, after):
        violations = (f"the records in {after.path} are not at its end, one after the other, as export writes them",)
    verdicts = _judged(network, after, evidence, recorded, filters) if not violations else []
    unproved = [violation for verdict in verdicts for violation in verdict.violations]
    violations = (*violations, *dict.fromkeys((*unproved, *_contradictions(evidence, recorded))))[:_MOST_VIOLATIONS]
    if violations:
        return VerifyReport(False, comparison.changed, violations, evidence.name or "none")
    if not comparison.changed and before.data == after.data:
        return VerifyReport(True, (), (), evidence.name or "the files themselves", "identical")
    rounds = tuple(verdict.proof for verdict in verdicts[: len(evidence.claims)])
    weakest = max((proof.form for proof in rounds), key=FORMS.index, default=None)
    return VerifyReport(True, comparison.changed, (), evidence.name or "none", weakest, rounds)


def _contradictions(evidence: Evidence, recorded: Evidence) -> tuple[str, ...]:
    """Says where a masked model and the record of the same round are of different selections."""
    said = {claim.number: claim.selection for claim in recorded.claims}
    return tuple(
        f"round {claim.number}: {recorded.name} is of another selection than {evidence.name}"
        for claim in evidence.claims
        if claim.selection != said.get(claim.number, claim.selection)
    )


def _judged(
    network: Network,
    after: ModelFile,
    evidence: Evidence,
    recorded: Evidence,
    filters: Optional[Mapping[str, Sequence[int]]],
) -> list[Verdict]:
    """Holds what is claimed against the base: first what the evidence claims, then what the records do besides."""
    if not evidence.claims and not recorded.claims:
        return []
    provenance = trace_network(network)
    verdicts = []
    for source in (evidence,) if evidence is recorded else (evidence, recorded):
        trained: Mapping[str, NDArray[np.float32]] = {}
        for claim in source.claims:
            if claim.selection.protect and claim.is_first:
                trained = trained_before(network)
            verdicts.append(judge(claim, provenance, trained, filters))
            trained = union(trained, claim.masks)
            trained = union(trained, {name: elements.mask for name, elements in claim.sets.items()})
    if not any(verdict.violations for verdict in verdicts):
        heard = tuple(heard_at_zero(recorded.claims, provenance, after))
        verdicts[-1] = replace(verdicts[-1], violations=heard)
    return verdicts


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
    return Comparison(comparison.changed, violations[:_MOST_VIOLATIONS])


@dataclass(frozen=True)
class Comparison:
    """As `VerifyReport`, without the evidence."""

    changed: tuple[Changed, ...]
    violations: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing but retrained filters changed."""
        return not self.violations


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
        differences = _differences(base.proto, onnx.ModelProto.FromString(body))
        return Comparison((), (f"the file has {len(body) - len(base.data):+,} bytes besides its record", *differences))
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
        violations += [_name_place(base, piece.file, int(offset)) for offset in wrong[:_MOST_VIOLATIONS]]
    ordered = tuple(Changed(p, tuple(sorted(changed[p]))) for p in parameters if changed.get(p))
    return Comparison(ordered, tuple(dict.fromkeys(violations))[:_MOST_VIOLATIONS])


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
        *(f"frozen values of filter {m} of {parameter.name!r} changed" for m in frozen[:_MOST_VIOLATIONS]),
        *(
            f"values of filter {m} of {parameter.name!r} that were set once, and do not train, are not what was set"
            for m in given[:_MOST_VIOLATIONS]
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
