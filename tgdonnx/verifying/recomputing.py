"""Holds what evidence claims of a round against the vendor's file: the selection is carried out again, the masks compared.

What trains in a round follows from the selection and the file that it started from. Where both are known, the masks must be
equal to those that are computed anew. Scores are sums of floating-point numbers, whose last bits differ between machines and
versions of numpy: a filter or map whose score lies within `NEAR` of phi may be on either side.

Of a later round of which only the vendor's file is at hand, selections of layers and lists can be carried out as well, since
they look at no value. A selection by score cannot: then the masks must be those that some filters give, with all that belongs
to them, and which these are is the record's own word. So is a list, unless it is given independently.

Whatever the evidence says, nothing may train that never does: what `Network.why_untrainable` names, statistics of norms,
tensors that nobody reads, and whatever else belongs to no filter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import NonFiniteWeightError, SelectionError
from tgdonnx.overwriting import differing
from tgdonnx.records import SetElements
from tgdonnx.regrowing.expected_start import ExpectedStart, expected_start, why_not_reinitialized
from tgdonnx.regrowing.reinitializable import reinitializable
from tgdonnx.selection import ByScore, Filters, PlanMode, Selection, plan_masks, score_filters, select
from tgdonnx.selection.channels import statistics
from tgdonnx.selection.plan import uses
from tgdonnx.selection.recorded import (
    describe_selection,
    reinitialization_of,
    strategy_of,
    threshold_of,
)
from tgdonnx.selection.strategy import RecordedSelection
from tgdonnx.tracing.provenance import Provenance

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Masks = Mapping[str, NDArray[np.float32]]
Form = Literal["identical", "recomputed", "listed", "recorded"]
FORMS: tuple[Form, ...] = ("identical", "recomputed", "listed", "recorded")
"""From the strongest to the weakest."""

NEAR = 1e-6
"""How close to phi a score must be for either side to be believed."""
_MOST = 8


@dataclass(frozen=True)
class Claim:
    """What evidence says of a round.

    Attributes:
        number: of the round.
        is_first: whether the round started from the vendor's file that is at hand.
        selection: what was asked for.
        masks: for names of tensors what may have other values than the file that the round started from.
        sets: for names of tensors the elements that were given a value and keep it.
        is_whole: whether there must be a mask of every retrainable tensor, as in a masked model; a record names what trained.
        blend: how far what trained goes from what it started from (0) to what it came to; a masked model does not say it.
    """

    number: int
    is_first: bool
    selection: RecordedSelection
    masks: Masks = field(repr=False)
    sets: Mapping[str, SetElements] = field(repr=False)
    is_whole: bool
    blend: float = 1.0


@dataclass(frozen=True)
class RoundProof:
    """What is proved of a round.

    Attributes:
        round: its number.
        form: by what: ``recomputed``, ``listed`` (by an independent list) or ``recorded`` (the record's own word).
        sentence: what that means here.
    """

    round: int
    form: Form
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """What comes of holding a claim against the vendor's file.

    Attributes:
        proof: what is proved, if there are no violations.
        violations: what of the claim cannot be.
    """

    proof: RoundProof
    violations: tuple[str, ...]


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
    violations = [*_never(claim, provenance)]
    nothing = RoundProof(claim.number, "recorded", "nothing is proved")
    if violations:
        return Verdict(nothing, tuple(violations))
    try:
        expected = _expected(claim, provenance, trained, filters)
    except _WrongClaimError as error:
        return Verdict(nothing, (f"round {claim.number}: {error}",))
    what = describe_selection(claim.selection) if filters is None else "the list that was given"
    violations = [*_differences(claim, expected, provenance, what), *_wrong_values(claim, expected.start)]
    sentence = expected.sentence + _blended(claim)
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


def _never(claim: Claim, provenance: Provenance) -> list[str]:
    """Says of tensors and elements that the claim lets train, or be set, that they never do."""
    every = tuple(np.ones(layer.filters, bool) for layer in provenance.layers)
    all_maps = tuple(np.ones(layer.maps, bool) for layer in provenance.layers)
    planned = {m.parameter.name: m for m in plan_masks(provenance, Selection({}, every, all_maps), "paper")}
    norms = {tensor.parameter.name for tensor in statistics(provenance)}
    found = []
    for name in dict.fromkeys((*claim.masks, *claim.sets)):
        if name not in planned and not (name in norms and name not in claim.masks):
            found.append(f"{name!r} is said to have trained, but it {_why_never(name, norms, provenance)}")
    for name, mask in claim.masks.items():
        if name in planned:
            limit = planned[name]
            stray = _spread(mask, limit.parameter.shape) & ~_spread(limit.values, limit.parameter.shape)
            if stray.any():
                found.append(
                    f"{_rows(stray, name, provenance)} of {name!r} is said to have trained, but never does"
                    + (f": {limit.note}" if limit.note else "")
                )
    return found


def _why_never(name: str, norms: set[str], provenance: Provenance) -> str:
    network = provenance.network
    if name not in network.stored_parameters:
        return "is no tensor of the vendor's file, or the name of several"
    reason = network.why_untrainable(name)
    if reason is not None:
        return str(reason)
    if name in norms:
        return "is a mean or variance of a norm, which never trains"
    value = network.stored_parameters[name].value
    if not uses(value):
        return "is read by no node"
    return "belongs to no filter of a layer"


def _expected(
    claim: Claim, provenance: Provenance, trained: Masks, filters: Optional[Mapping[str, Sequence[int]]]
) -> _Expected:
    """Returns what the masks must be, by the strongest form of proof that there is."""
    selection, told = claim.selection, describe_selection(claim.selection)
    word = "the masked model's own word" if claim.is_whole else "the record's own word"
    strategy = strategy_of(selection) if filters is None else Filters(filters)
    by_score = isinstance(strategy, ByScore)
    if by_score and not claim.is_first:
        sentence = (
            f"{told}, was scored on the result of the round before, which is not at hand: which filters it selected is "
            f"{word}; verify each round against the file that it started from"
        )
        if selection.mode == "regrow":
            return _Expected(_regrown(claim, provenance, None), "recorded", sentence)
        inferred = _inferred(claim, provenance, trained)
        start = _planned(claim, provenance, inferred, trained)
        return _Expected(start, "recorded", sentence, at_most=selection.protect)
    try:
        chosen = select(provenance, strategy)
    except (SelectionError, NonFiniteWeightError) as error:
        if filters is not None:
            raise
        raise _WrongClaimError(f"the selection {told}, cannot be carried out: {error}") from error
    form: Form = "recomputed"
    sentence = f"the masks are those of {told}, computed again from the vendor's file"
    if filters is not None:
        form, sentence = "listed", f"the masks are those of the list that was given, mode {selection.mode}"
    elif isinstance(strategy, Filters):
        form = "recorded"
        sentence = f"the masks are those of a list of filters, which is {word}; name the list with `filters`"
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
    if by_score and any(_differ(claim.masks[n], start.masks.get(n), n, provenance).any() for n in claim.masks):
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
    for (layer_index, m), reason in sorted(why_not_reinitialized(provenance, rows).items()):
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
    return decided, sum(int(n.sum()) for n in (*filters, *maps))


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
            trains = _spread(claim.masks[name], shape)
            if claim.selection.protect and name in trained:
                trains = trains | _spread(trained[name], shape)
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


def _differences(claim: Claim, expected: _Expected, provenance: Provenance, what: str) -> list[str]:
    """Says where masks are not what they must be."""
    found = []
    start = expected.start
    for name in start.masks if claim.is_whole else claim.masks:
        if name not in claim.masks:
            found.append(f"round {claim.number}: there is no mask of {name!r}")
            continue
        wrong = _differ(claim.masks[name], start.masks.get(name), name, provenance)
        if expected.at_most:
            wrong &= _spread(claim.masks[name], wrong.shape)
        found += _told(
            wrong, claim.masks[name], name, provenance, f"round {claim.number}: {{}} of {name!r} {{}} by {what}"
        )
    nothing = np.zeros((), np.float32)
    for name in dict.fromkeys((*start.set_masks, *claim.sets)):
        own = claim.sets[name].mask if name in claim.sets else nothing
        wrong = _differ(own, start.set_masks.get(name), name, provenance)
        if wrong.any():
            found.append(
                f"round {claim.number}: {_rows(wrong, name, provenance)} of {name!r} is set, or not, against {what}"
            )
    return found


def _told(wrong: Bools, mask: NDArray[np.float32], name: str, provenance: Provenance, text: str) -> list[str]:
    trains = _spread(mask, wrong.shape)
    said = ((wrong & trains, "is said to train, but is frozen"), (wrong & ~trains, "is said to be frozen, but trains"))
    return [text.format(_rows(where, name, provenance), how) for where, how in said if where.any()]


def _wrong_values(claim: Claim, start: ExpectedStart) -> list[str]:
    """Says which values that were set are not what the start sets."""
    found = []
    for name, elements in claim.sets.items():
        chosen = _spread(elements.mask, elements.values.shape)
        values = elements.values[chosen]
        if name in start.exact:
            wrong = bool(differing(values, start.exact[name][chosen]).any())
        elif name in start.among and claim.is_first:
            wrong = not bool(np.isin(_bits(values), _bits(start.among[name])).all())
        else:
            wrong = values.dtype.kind == "f" and not bool(np.isfinite(values).all())
        if wrong:
            found.append(
                f"round {claim.number}: values of {name!r} are said to have been set that reinitialisation does not set"
            )
    return found


def _bits(values: Array) -> Array:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def _differ(mask: NDArray[np.float32], other: Optional[Array], name: str, provenance: Provenance) -> Bools:
    shape = provenance.network.stored_parameters[name].shape
    different: Bools = _spread(mask, shape) != _spread(np.zeros((), np.float32) if other is None else other, shape)
    return different


def _spread(mask: Array, shape: tuple[int, ...]) -> Bools:
    spread: Bools = np.broadcast_to(mask == 1, shape)
    return spread


def _rows(where: Bools, name: str, provenance: Provenance) -> str:
    """Names the filters of a tensor in which something is, of many the first ones."""
    index = np.broadcast_to(provenance.network.filter_index(name), where.shape)
    rows = [int(m) for m in np.unique(index[where])]
    more = f" and {len(rows) - _MOST} more" if len(rows) > _MOST else ""
    return f"filter {rows[0]}" if len(rows) == 1 else f"each of the filters {', '.join(map(str, rows[:_MOST]))}{more}"
