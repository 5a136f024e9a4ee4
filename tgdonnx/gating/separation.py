"""How well a detector tells new inputs from others, and whether that is well enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError
from tgdonnx.gated_model.detector import Detector
from tgdonnx.gated_model.places import Place
from tgdonnx.gating.features import Moments
from tgdonnx.gating.fitting import fit

Bools = NDArray[np.bool_]

ENOUGH = 0.9
"""The share of inputs that must go to the right side, of each kind that is given; of 5 and more, one may always fail."""
_FEW = 5
_FEWEST_FEATURES = 16
_MOST_DIGITS = 6


@dataclass(frozen=True)
class Separation:
    """Shares of inputs that go to the right side.

    Attributes:
        new: of the new inputs, each judged by a detector of the others.
        held_out: of further new inputs; None if there are none.
        retain: of old inputs, which go to the vendor's side; None if there are none.
    """

    new: float
    held_out: Optional[float]
    retain: Optional[float]

    @property
    def worst(self) -> float:
        """The lowest share."""
        return min(share for share in (self.new, self.held_out, self.retain) if share is not None)

    def __str__(self) -> str:
        shares = (("new", self.new), ("held-out new", self.held_out), ("old", self.retain))
        return ", ".join(f"{_percent(share)} of the {what} inputs" for what, share in shares if share is not None)


def _percent(share: float) -> str:
    """Returns a share in so many digits that it is not taken for what is needed, or for all, if it is less."""
    digits = 0
    while digits < _MOST_DIGITS and any(
        share < limit and f"{share:.{digits}%}" == f"{limit:.{digits}%}" for limit in (ENOUGH, 1.0)
    ):
        digits += 1
    return f"{share:.{digits}%}"


@dataclass(frozen=True)
class Judged:
    """A detector and how it separates.

    Attributes:
        place: where it looks.
        detector: the detector.
        separation: the shares.
        is_enough: whether it may be used.
    """

    place: Place
    detector: Detector
    separation: Separation
    is_enough: bool


def judge(place: Place, new: Moments, held_out: Optional[Moments], retain: Optional[Moments]) -> Judged:
    """Fits a detector on new inputs and judges it.

    Raises:
        DataError: it cannot be fitted.
    """
    floor = new.floor()
    fitted = fit(new.features(floor))
    right: list[Optional[Bools]] = [fitted.left_out < fitted.threshold, None, None]
    if held_out is not None:
        right[1] = fitted.accepts(held_out.features(floor))
    if retain is not None:
        right[2] = ~fitted.accepts(retain.features(floor))
    first, *others = (None if each is None else float(each.mean()) for each in right)
    assert first is not None
    is_enough = all(_is_enough(each) for each in right if each is not None)
    return Judged(place, fitted.detector(place.layer, place.value, floor), Separation(first, *others), is_enough)


def _is_enough(right: Bools) -> bool:
    """Whether enough of some inputs go to the right side: of few, one tells little."""
    return int((~right).sum()) <= max((1 - ENOUGH) * len(right), 1 if len(right) >= _FEW else 0)


def first_that_separates(
    where: Sequence[Place],
    new: Mapping[Place, Moments],
    held_out: Optional[Mapping[Place, Moments]],
    retain: Optional[Mapping[Place, Moments]],
) -> Judged:
    """Returns the detector at the earliest place where it separates well enough.

    Old inputs, if there are any, only judge: the detector's numbers are from the new ones alone. Without old inputs a place
    must have enough features for others to differ in, or the most of all.

    Raises:
        DataError: no detector separates.
    """
    best: Optional[Judged] = None
    problem = ""
    if retain is None:
        wide = [place for place in where if 2 * new[place].means.shape[1] >= _FEWEST_FEATURES]
        where = wide or [max(where, key=lambda place: new[place].means.shape[1])]
    for place in where:
        try:
            found = judge(
                place,
                new[place],
                None if held_out is None else held_out[place],
                None if retain is None else retain[place],
            )
        except DataError as error:
            problem = str(error)
            continue
        if found.is_enough:
            return found
        if best is None or found.separation.worst > best.separation.worst:
            best = found
    if best is None:
        raise DataError(f"no detector can be had: {problem}", remedy="name another layer, or set g by an input")
    raise DataError(
        f"new inputs cannot be told from others well enough: at best, in front of {best.place.layer!r}, "
        f"{best.separation} go to the right side, and {ENOUGH:.0%} are needed",
        remedy="give more new inputs, or more alike, name a layer, or leave the detector out and set g yourself",
    )
