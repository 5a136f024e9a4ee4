"""Holds what evidence claims of a round against the vendor's file: the selection is carried out again, the masks compared.

What trains in a round follows from the selection and the file that it started from. Where both are known, the masks must be
equal to those that are computed anew. Scores are sums of floating-point numbers, whose last bits differ between machines and
versions of numpy: a filter or map whose score lies within `NEAR` of phi may be on either side.

Of a later round of which only the vendor's file is at hand, selections of layers and lists can be carried out as well, since
they look at no value. A selection by score cannot: then the masks must be those that some filters give, with all that belongs
to them, and which these are is the record's own word. So is a list, unless it is given independently, and what was selected by
a gradient on data that is not at hand: of that, the list must be within the fraction that was asked for.

Whatever the evidence says, nothing may train that never does: what `Network.why_untrainable` names, statistics of norms,
tensors that nobody reads, and whatever else belongs to no filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from tgdonnx.errors import NonFiniteWeightError, SelectionError
from tgdonnx.regrowing.expected_start import ExpectedStart, expected_start, why_not_reinitialized
from tgdonnx.regrowing.reinitializable import reinitializable
from tgdonnx.selection import (
    ByScore,
    BySensitivity,
    Filters,
    PlanMode,
    Selection,
    frozen_as_recorded,
    plan_masks,
    score_filters,
    select,
    without_frozen,
)
from tgdonnx.selection.recorded import (
    describe_selection,
    frozen_by,
    reinitialization_of,
    strategy_of,
    threshold_of,
)
from tgdonnx.selection.strategy import Frozen
from tgdonnx.tracing.provenance import Provenance
from tgdonnx.verifying.claims import Bools, Claim, Form, Masks, RoundProof, Verdict
from tgdonnx.verifying.contradictions import differ, never_trains, spread, wrong_masks, wrong_values

NEAR = 1e-6
"""How close to phi a score must be for either side to be believed."""


@dataclass(frozen=True)
class _Expected:
    """What a claim must be: the start, by which form of proof, and what has to be said about it."""

    start: ExpectedStart
    form: Form
    sentence: str
    at_most: bool = False


class _WrongClaimError(Exception):
    """The claim contradicts itself or the file; says how."""


def judge(
    claim: Claim, provenance: Provenance, trained: Masks, filters: Optional[Mapping[str, Sequence[int]]] = None
) -> Verdict:
    """Holds a claim against the vendor's file.

    Args:
        claim: what evidence says of a round.
        provenance: the vendor's file, traced.
        trained: for names of tensors what earlier rounds trained or set, which a round that protects it leaves alone.
        filters: the list of filters, from somebody else than the evidence.

    Raises:
        SelectionError: ``filters`` names what is not there.
    """
    violations = [*never_trains(claim, provenance)]
    nothing = RoundProof(claim.number, "recorded", "nothing is proved")
    if violations:
        return Verdict(nothing, tuple(violations))
    try:
        expected = _expected(claim, provenance, trained, filters)
    except _WrongClaimError as error:
        return Verdict(nothing, (f"round {claim.number}: {error}",))
    what = describe_selection(claim.selection) if filters is None else "the list that was given"
    violations = [
        *wrong_masks(claim, expected.start, provenance, what, at_most=expected.at_most),
        *wrong_values(claim, expected.start),
    ]
    sentence = expected.sentence + _blended(claim) + _unnamed(claim, expected.start)
    return Verdict(RoundProof(claim.number, expected.form, sentence), tuple(violations))


def _blended(claim: Claim) -> str:
    """Says what is known of a blend: at 0 it can be seen (`tgdonnx.verifying.blends`), elsewhere it cannot."""
    if claim.blend == 1:
        return ""
    if claim.blend:
        return f"; that it is blended at {claim.blend:g} is the record's own word"
    return (
        "; blended at 0, nothing reads the reinitialised filters"
        if claim.selection.mode == "regrow"
        else "; blended at 0"
    )


def _unnamed(claim: Claim, start: ExpectedStart) -> str:
    """Says which tensors the selection lets train that the record does not name: no byte of them differs, so why is unknown."""
    names = [name for name, mask in start.masks.items() if mask.any() and name not in claim.masks]
    if claim.is_whole or not names:
        return ""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"; it selects {names[0]!r}{more} too, which the record does not name, and which did not change: whether that leads to "
        "no output that trained or was to stay frozen, `masked` tells"
    )


def _expected(
    claim: Claim, provenance: Provenance, trained: Masks, filters: Optional[Mapping[str, Sequence[int]]]
) -> _Expected:
    """Returns what the masks must be, by the strongest form of proof that there is."""
    selection, told = claim.selection, describe_selection(claim.selection)
    word = "the masked model's own word" if claim.is_whole else "the record's own word"
    strategy = strategy_of(selection) if filters is None else Filters(filters)
    by_score = isinstance(strategy, ByScore)
    _frozen(claim, provenance)
    if by_score and not claim.is_first:
        sentence = (
            f"{told}, was scored on the result of the round before, which is not at hand: which filters it selected is "
            f"{word}; verify each round against the file that it started from"
        )
        if selection.mode == "regrow":
            return _Expected(_regrown(claim, provenance, None), "recorded", sentence)
        inferred = _unfrozen(claim, provenance, _inferred(claim, provenance, trained))
        start = _planned(claim, provenance, inferred, trained)
        return _Expected(start, "recorded", sentence, at_most=selection.protect)
    try:
        # A list from somebody else may name filters of layers that the record freezes: less trains then, never more.
        chosen = select(provenance, strategy, frozen_by(selection))
    except (SelectionError, NonFiniteWeightError) as error:
        if filters is not None:
            raise
        raise _WrongClaimError(f"the selection {told}, cannot be carried out: {error}") from error
    form: Form = "recomputed"
    sentence = f"the masks are those of {told}, computed again from the vendor's file"
    if filters is not None:
        form, sentence = "listed", f"the masks are those of the list that was given, mode {selection.mode}"
        if frozen_by(selection):
            sentence += f", without the layers that {word} freezes"
    elif isinstance(strategy, (Filters, BySensitivity)):
        form = "recorded"
        sentence = f"the masks are those of {told}; the list is {word}; name it with `filters`"
    if by_score:
        _require_threshold(claim, chosen)
    if selection.mode == "regrow":
        start = _regrown(claim, provenance, chosen)
        could, _ = reinitializable(provenance, chosen, {})
        open_ones = sum(int(rows.sum()) for rows in could)
        count = selection.reinitialized
        if count != open_ones:
            form = "recorded"
            sentence += f"; which {count} of the {open_ones} filters that could be reinitialised are, is {word}"
        if start.set_masks.keys() - start.exact.keys() - start.among.keys():
            form = "recorded"
            sentence += f"; the means and variances that calibration set are {word}"
        return _Expected(start, form, sentence)
    start = _planned(claim, provenance, chosen, trained)
    if by_score and any(differ(claim.masks[n], start.masks.get(n), n, provenance).any() for n in claim.masks):
        claimed = _inferred(claim, provenance, {})
        decided, near = _decided_near(claim, provenance, chosen, claimed)
        if near:
            start = _planned(claim, provenance, decided, trained)
            sentence += f"; {near} scores within {NEAR:g} of phi are taken as recorded"
    return _Expected(start, form, sentence)


def _planned(claim: Claim, provenance: Provenance, selection: Selection, trained: Masks) -> ExpectedStart:
    mode: PlanMode = "readers" if claim.selection.mode == "readers" else "paper"
    masks = {m.parameter.name: m.values for m in plan_masks(provenance, selection, mode)}
    if claim.selection.protect:
        masks = {n: values * (1 - trained[n]) if n in trained else values for n, values in masks.items()}
    return ExpectedStart(masks, {}, {}, {})


def _regrown(claim: Claim, provenance: Provenance, chosen: Optional[Selection]) -> ExpectedStart:
    """Returns the start for the filters that the claim says are reinitialised; they must be among those that were selected."""
    told = reinitialization_of(claim.selection)
    assert told is not None
    frozen = _frozen(claim, provenance)
    try:
        rows = select(provenance, Filters(told.rows)).filters
    except SelectionError as error:
        raise _WrongClaimError(f"the filters that are said to be reinitialised: {error}") from error
    if sum(int(each.sum()) for each in rows) != told.reinitialized:
        raise _WrongClaimError(f"{told.reinitialized} filters are said to be reinitialised, but others are listed")
    if chosen is not None and any((own & ~selected).any() for own, selected in zip(rows, chosen.filters)):
        chosen, _ = _decided_near(claim, provenance, chosen, replace(chosen, filters=rows))
        for layer, own, selected in zip(provenance.layers, rows, chosen.filters):
            for row in np.flatnonzero(own & ~selected):
                raise _WrongClaimError(
                    f"filter {row} of {layer.name!r} is said to be reinitialised, but {describe_selection(claim.selection)}, "
                    "does not select it"
                )
    for (layer_index, m), reason in sorted(why_not_reinitialized(provenance, rows, frozen).items()):
        name = provenance.layers[layer_index].name
        raise _WrongClaimError(f"filter {m} of {name!r} is said to be reinitialised, but cannot be: {reason}")
    return expected_start(provenance, rows, told.reinitialization, isolate=told.isolate)


def _require_threshold(claim: Claim, chosen: Selection) -> None:
    recorded, phi = threshold_of(claim.selection), _threshold(chosen)
    assert recorded is not None
    assert phi is not None
    if abs(recorded - phi) > NEAR:
        raise _WrongClaimError(
            f"phi is recorded as {recorded:g}, but {describe_selection(claim.selection)}, is {phi:g}"
        )


def _decided_near(claim: Claim, provenance: Provenance, chosen: Selection, claimed: Selection) -> tuple[Selection, int]:
    """Returns a selection in which filters and maps near the threshold are as claimed, and how many are near."""
    strategy, phi = strategy_of(claim.selection), _threshold(chosen)
    if phi is None or not isinstance(strategy, ByScore):
        return chosen, 0
    scored = score_filters(provenance, alpha=strategy.alpha, k=strategy.k)
    filters = [np.abs(layer.values - phi) <= NEAR for layer in scored.importance]
    maps = [(np.abs(s.kse - phi) <= NEAR) & t for s, t in zip(scored.scores, scored.traced)]
    decided = replace(
        chosen,
        filters=tuple(np.where(n, own, old) for n, own, old in zip(filters, claimed.filters, chosen.filters)),
        meaningless=tuple(np.where(n, own, old) for n, own, old in zip(maps, claimed.meaningless, chosen.meaningless)),
    )
    return _unfrozen(claim, provenance, decided), sum(int(n.sum()) for n in (*filters, *maps))


def _frozen(claim: Claim, provenance: Provenance) -> Frozen:
    """Returns the layers that a claim says were to stay frozen.

    Raises:
        _WrongClaimError: there is no such layer, or they are not named as a record names them.
    """
    try:
        return frozen_as_recorded(provenance.layers, frozen_by(claim.selection))
    except SelectionError as error:
        raise _WrongClaimError(f"the layers that are said to be frozen: {error}") from error


def _unfrozen(claim: Claim, provenance: Provenance, selection: Selection) -> Selection:
    """Returns a selection that was read from masks or scores, without the layers that the claim says were to stay frozen."""
    return without_frozen(provenance, selection, _frozen(claim, provenance))


def _threshold(selection: Selection) -> Optional[float]:
    phi = selection.strategy.get("phi")
    return None if phi is None else float(phi)


def _inferred(claim: Claim, provenance: Provenance, trained: Masks) -> Selection:
    """Returns the filters and maps that masks are made of; what is protected counts as theirs if all else is."""
    filters, maps = [], []
    for layer in provenance.layers:
        rows: Bools = np.zeros(layer.filters, bool)
        read: Bools = np.zeros(layer.maps, bool)
        if layer.weight is not None and layer.weight.name in claim.masks:
            name, shape = layer.weight.name, layer.weight.shape
            trains = spread(claim.masks[name], shape)
            if claim.selection.protect and name in trained:
                trains = trains | spread(trained[name], shape)
            kernels = layer.layout.kernels(layer.weight.rearrange(trains))
            whole: Bools = np.all(kernels.reshape(layer.filters, layer.maps // layer.group, -1), axis=2)
            rows = np.asarray(np.all(whole, axis=1))
            if claim.selection.mode == "readers":
                by_group = (whole | rows[:, None]).reshape(layer.group, layer.filters // layer.group, -1)
                some_stay = ~np.all(rows.reshape(layer.group, -1), axis=1)
                read = (np.all(by_group, axis=1) & some_stay[:, None]).reshape(-1)
        filters.append(rows)
        maps.append(read)
    return Selection({}, tuple(filters), tuple(maps))
