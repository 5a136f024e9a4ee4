"""Where the masks and values of a claim are not what they may be, or must be, in words."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.overwriting import differing
from tgdonnx.regrowing.expected_start import ExpectedStart
from tgdonnx.selection import Selection, plan_masks
from tgdonnx.selection.channels import statistics
from tgdonnx.selection.plan import uses
from tgdonnx.tracing.provenance import Provenance
from tgdonnx.verifying.claims import Bools, Claim

Array = NDArray[Any]


_MOST = 8


def never_trains(claim: Claim, provenance: Provenance) -> list[str]:
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
            stray = spread(mask, limit.parameter.shape) & ~spread(limit.values, limit.parameter.shape)
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


def wrong_masks(claim: Claim, start: ExpectedStart, provenance: Provenance, what: str, *, at_most: bool) -> list[str]:
    """Says where masks are not what they must be.

    Args:
        claim: the masks, among others.
        start: what they must be.
        provenance: the vendor's file, traced.
        what: what they follow from, in words.
        at_most: whether less may train than must.
    """
    found = []
    for name in start.masks if claim.is_whole else claim.masks:
        if name not in claim.masks:
            found.append(f"round {claim.number}: there is no mask of {name!r}")
            continue
        wrong = differ(claim.masks[name], start.masks.get(name), name, provenance)
        if at_most:
            wrong &= spread(claim.masks[name], wrong.shape)
        found += _told(
            wrong, claim.masks[name], name, provenance, f"round {claim.number}: {{}} of {name!r} {{}} by {what}"
        )
    nothing = np.zeros((), np.float32)
    for name in dict.fromkeys((*start.set_masks, *claim.sets)):
        own = claim.sets[name].mask if name in claim.sets else nothing
        wrong = differ(own, start.set_masks.get(name), name, provenance)
        if wrong.any():
            found.append(
                f"round {claim.number}: {_rows(wrong, name, provenance)} of {name!r} is set, or not, against {what}"
            )
    return found


def _told(wrong: Bools, mask: NDArray[np.float32], name: str, provenance: Provenance, text: str) -> list[str]:
    trains = spread(mask, wrong.shape)
    said = ((wrong & trains, "is said to train, but is frozen"), (wrong & ~trains, "is said to be frozen, but trains"))
    return [text.format(_rows(where, name, provenance), how) for where, how in said if where.any()]


def wrong_values(claim: Claim, start: ExpectedStart) -> list[str]:
    """Says which values that were set are not what the start sets."""
    found = []
    for name, elements in claim.sets.items():
        chosen = spread(elements.mask, elements.values.shape)
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


def differ(mask: NDArray[np.float32], other: Optional[Array], name: str, provenance: Provenance) -> Bools:
    """Returns where two masks of a tensor differ; where there is no other, all of it is frozen there."""
    shape = provenance.network.stored_parameters[name].shape
    different: Bools = spread(mask, shape) != spread(np.zeros((), np.float32) if other is None else other, shape)
    return different


def spread(mask: Array, shape: tuple[int, ...]) -> Bools:
    """Returns where a mask is 1, in the shape of its tensor."""
    spreads: Bools = np.broadcast_to(mask == 1, shape)
    return spreads


def _rows(where: Bools, name: str, provenance: Provenance) -> str:
    """Names the filters of a tensor in which something is, of many the first ones."""
    index = np.broadcast_to(provenance.network.filter_index(name), where.shape)
    rows = [int(m) for m in np.unique(index[where])]
    more = f" and {len(rows) - _MOST} more" if len(rows) > _MOST else ""
    return f"filter {rows[0]}" if len(rows) == 1 else f"each of the filters {', '.join(map(str, rows[:_MOST]))}{more}"
