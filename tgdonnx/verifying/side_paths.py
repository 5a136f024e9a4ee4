"""Holds what evidence claims of a round of mode ``adapter`` against the file that it started from.

Which side paths there are follows from the selection, the rank and the graph, of which no value is looked at; so of later
rounds, too, all is computed again. The file with the side paths put in anew is what a tuned file is compared with, byte by byte
(`tgdonnx.verifying.allowed_changes`); here is what of it may have other values: the weights of the side paths, where they are
merged those that they are merged into, with a blend of 0 nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from tgdonnx.adapting import SidePath
from tgdonnx.adapting.side_paths import plan_side_paths
from tgdonnx.errors import SelectionError
from tgdonnx.selection import frozen_as_recorded, select
from tgdonnx.selection.recorded import adapter_of, describe_selection, frozen_by, strategy_of
from tgdonnx.tracing.provenance import Provenance
from tgdonnx.verifying.claims import Claim, RoundProof, Verdict


def judge_side_paths(
    claim: Claim, provenance: Provenance, filters: Optional[Mapping[str, Sequence[int]]] = None
) -> Verdict:
    """Holds a claim of mode ``adapter`` against the file that the round started from, or its graph.

    Args:
        claim: what evidence says of the round.
        provenance: that file, traced.
        filters: a list of filters from somebody else than the evidence; there are none in this mode.
    """
    told = describe_selection(claim.selection)
    found: list[str] = []
    paths: tuple[SidePath, ...] = ()
    try:
        paths = _paths(claim, provenance)
    except SelectionError as error:
        found.append(f"the selection {told}, cannot be carried out: {error}")
    trains = _trains(claim, paths)
    if filters is not None:
        found.append(f"filters are listed that were to be retrained, but {told}, retrains none")
    for name, mask in claim.masks.items():
        if mask.any() and name not in trains:
            found.append(f"{name!r} is said to have trained, but is not what trains by {told}")
        elif name in trains and not mask.all():
            found.append(f"a part of {name!r} is said to be frozen, but all of it trains by {told}")
    if claim.is_whole:
        found += [f"there is no mask of {name!r}" for name in trains if name not in claim.masks]
    sentence = f"{_what(claim)} those of {told}, computed again from the vendor's graph"
    return Verdict(
        RoundProof(claim.number, "recomputed", sentence),
        tuple(f"round {claim.number}: {violation}" for violation in found),
    )


def _paths(claim: Claim, provenance: Provenance) -> tuple[SidePath, ...]:
    recorded = adapter_of(claim.selection)
    assert recorded is not None
    frozen_as_recorded(provenance.layers, frozen_by(claim.selection))
    chosen = select(provenance, strategy_of(claim.selection), frozen_by(claim.selection))
    return plan_side_paths(provenance.network, chosen.filters, recorded.rank, claim.number)[0]


def _trains(claim: Claim, paths: Sequence[SidePath]) -> dict[str, None]:
    """Returns the names of the tensors that may have other values, in order."""
    if claim.blend == 0:
        return {}
    if claim.merged:
        return {path.layer.weight.name: None for path in paths if path.layer.weight is not None}
    return {name: None for path in paths for name in (path.down, path.up)}


def _what(claim: Claim) -> str:
    if claim.blend == 0:
        return "blended at 0, nothing is added; the side paths would be"
    at = "" if claim.blend == 1 else f", blended at {claim.blend:g} by the record's own word,"
    if claim.merged:
        return f"nothing is added; the weights that side paths are merged into{at} are"
    return f"nothing but side paths is added, and these{at} are"
