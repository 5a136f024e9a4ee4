"""Prove that a tuned file is the vendor's file with other values in retrained filters, or list what else differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgdonnx.files.model_file import ModelFile, ModelSource, load_model, require_external_data
from tgdonnx.gated_model.reading import take_apart, why_not_gated
from tgdonnx.gated_model.record import describe_gate, is_gated
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import MaskedModel, read_masked
from tgdonnx.presenting import Presented
from tgdonnx.records import trained_before, union
from tgdonnx.selection.strategy import RecordedSelection
from tgdonnx.tracing import trace_network
from tgdonnx.tracing.provenance import Provenance
from tgdonnx.verifying.allowed_changes import (
    Evidence,
    is_recorded_in,
    masked_evidence,
    recorded_evidence,
    records_are_plain,
)
from tgdonnx.verifying.blends import heard_at_zero
from tgdonnx.verifying.claims import FORMS, Claim, Form, RoundProof, Verdict
from tgdonnx.verifying.comparison import MOST_VIOLATIONS, Changed, compare_files
from tgdonnx.verifying.finite import not_finite
from tgdonnx.verifying.recomputing import judge
from tgdonnx.verifying.side_paths import judge_side_paths
from tgdonnx.verifying.told import told_of_data, wrong_names
from tgdonnx.verifying.wording import differences


@dataclass(frozen=True, repr=False)
class VerifyReport(Presented):
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
        added: of mode ``adapter``, the tensors of side paths that the vendor's file does not have.
        gate: of a gated file, how both networks are in it; the rest is then about the tuned one.
        told: what the last record says of how data is prepared and what classes are called, in sentences: its own word.
    """

    ok: bool
    changed: tuple[Changed, ...]
    violations: tuple[str, ...]
    evidence: str
    proof: Optional[Form] = None
    rounds: tuple[RoundProof, ...] = ()
    added: tuple[str, ...] = ()
    gate: Optional[str] = None
    told: tuple[str, ...] = ()


def verify(
    base: ModelSource,
    tuned: ModelSource,
    masked: Optional[ModelSource] = None,
    filters: Optional[Mapping[str, Sequence[int]]] = None,
) -> VerifyReport:
    """Compares a tuned file with the vendor's, byte by byte, and what may differ with what follows from the vendor's file.

    From a gated file what gate added is taken away; the tuned file that is left is compared, and gated again: every byte of the
    gated file must come out.

    Args:
        base: the vendor's file, or a model in memory; see `tgdonnx.files.in_memory`.
        tuned: what should be a tuned version of it, or the vendor's and a tuned one, gated; a file or in memory.
        masked: the masked model that says which filters may differ; without it, the record in the tuned file does.
        filters: for names of weights the filters that were to be retrained, known from elsewhere: what may differ must be that.

    Raises:
        ModelFileError: a file is no model, or external data is missing, or both models read the same external data.
        MaskedModelError: ``masked`` is no masked model.
        SelectionError: ``filters`` names what is not there.
    """
    before, after = load_model(base), load_model(tuned)
    require_external_data(before)
    return verify_gated(open_network(before), after, None if masked is None else read_masked(masked), filters)


def verify_gated(
    network: Network,
    after: ModelFile,
    evidence: Optional[MaskedModel],
    filters: Optional[Mapping[str, Sequence[int]]] = None,
) -> VerifyReport:
    """Does what `verify` does with files that are open, of which the tuned one may be gated.

    Raises:
        TgdonnxError: as `verify`.
    """
    if not is_gated(after.proto):
        return verify_files(network, after, evidence, filters)
    try:
        parts = take_apart(network.file, after)
    except ValueError as error:
        return VerifyReport(False, (), (f"{after.path} is not what gate writes: {error}",), "none")
    report = verify_files(network, parts.tuned, evidence, filters)
    reason = why_not_gated(network, after, parts) if report.ok else ""
    if reason:
        return VerifyReport(
            False, report.changed, (f"{after.path} is not what gate writes: {reason}",), report.evidence
        )
    return replace(report, gate=describe_gate(parts.record))


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
    if evidence is not recorded and [*map(_leaves_no_path, recorded.claims)] == [True]:
        evidence = replace(evidence, network=recorded.network, allowed=recorded.allowed)  # which leaves more to prove
    wrong = tuple(dict.fromkeys((*evidence.violations, *recorded.violations)))
    if wrong:
        return VerifyReport(False, (), wrong, evidence.name or "none")
    if not evidence.name and is_recorded_in(after, before.proto):
        reason = f"{before.path} was tuned from {after.path}, by its record; name the vendor's file first"
        return VerifyReport(False, (), (reason,), "none")
    if not evidence.name and before.data != after.data:
        reason = (
            f"{after.path} has no record of what was retrained from {before.path}; name the masked model with `masked`"
        )
        return VerifyReport(False, (), (reason, *differences(before.proto, after.proto)[:MOST_VIOLATIONS]), "none")
    comparison = compare_files(evidence.network, after, evidence.allowed)
    violations = comparison.violations
    if evidence is not recorded and any(claim.blend == 0 for claim in recorded.claims):
        more = compare_files(recorded.network, after, recorded.allowed).violations
        violations = (*violations, *more)[:MOST_VIOLATIONS]
    if not violations:
        violations = tuple(not_finite(evidence.network, after, comparison.changed))[:MOST_VIOLATIONS]
    if not violations and not records_are_plain(before.proto, after):
        violations = (f"the records in {after.path} are not at its end, one after the other, as export writes them",)
    verdicts = _judged(after, evidence, recorded, filters) if not violations else []
    unproved = [violation for verdict in verdicts for violation in verdict.violations]
    told_wrong = (*_contradictions(evidence, recorded), *wrong_names(network, after))
    violations = (*violations, *dict.fromkeys((*unproved, *told_wrong)))[:MOST_VIOLATIONS]
    if violations:
        return VerifyReport(False, comparison.changed, violations, evidence.name or "none")
    if not comparison.changed and before.data == after.data:
        return VerifyReport(True, (), (), evidence.name or "the files themselves", "identical")
    rounds = tuple(verdict.proof for verdict in verdicts[: len(evidence.claims)])
    weakest = max((proof.form for proof in rounds), key=FORMS.index, default=None)
    added = tuple(name for name in evidence.network.stored_parameters if name not in network.stored_parameters)
    told = told_of_data(before.proto, after.proto)
    return VerifyReport(True, comparison.changed, (), evidence.name or "none", weakest, rounds, added, told=told)


def _leaves_no_path(claim: Claim) -> bool:
    return claim.selection.mode == "adapter" and (claim.merged or claim.blend == 0)


def _contradictions(evidence: Evidence, recorded: Evidence) -> tuple[str, ...]:
    """Says where a masked model and the record of the same round are of different selections."""
    said = {claim.number: claim.selection for claim in recorded.claims}
    return tuple(
        f"round {claim.number}: {recorded.name} is of another selection than {evidence.name}: they differ in "
        f"{', '.join(_differing_fields(claim.selection, said[claim.number]))}"
        for claim in evidence.claims
        if claim.selection != said.get(claim.number, claim.selection)
    )


def _differing_fields(first: RecordedSelection, second: RecordedSelection) -> list[str]:
    """Returns the names of the fields in which two selections differ, as records have them."""
    one, other = msgspec.to_builtins(first), msgspec.to_builtins(second)
    return [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]


def _judged(
    after: ModelFile,
    evidence: Evidence,
    recorded: Evidence,
    filters: Optional[Mapping[str, Sequence[int]]],
) -> list[Verdict]:
    """Holds what is claimed against the base: first what the evidence claims, then what the records do besides."""
    if not evidence.claims and not recorded.claims:
        return []
    traced: dict[int, Provenance] = {}

    def provenance_of(network: Network) -> Provenance:
        if id(network) not in traced:
            traced[id(network)] = trace_network(network)
        return traced[id(network)]

    verdicts = []
    for source in (evidence,) if evidence is recorded else (evidence, recorded):
        trained: Mapping[str, NDArray[np.float32]] = {}
        for claim, network in zip(source.claims, source.stages):
            if claim.selection.mode == "adapter":
                verdicts.append(judge_side_paths(claim, provenance_of(network), filters))
            else:
                if claim.selection.protect and claim.is_first:
                    trained = trained_before(network)
                verdicts.append(judge(claim, provenance_of(network), trained, filters))
            trained = union(trained, claim.masks)
            trained = union(trained, {name: elements.mask for name, elements in claim.sets.items()})
    if not any(verdict.violations for verdict in verdicts):
        heard = tuple(heard_at_zero(recorded.claims, [*map(provenance_of, recorded.stages)], after))
        verdicts[-1] = replace(verdicts[-1], violations=heard)
    return verdicts
