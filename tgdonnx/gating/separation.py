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
from tgdonnx.gating.fitting import ACCEPT, fit

Bools = NDArray[np.bool_]

ENOUGH = 0.9
"""The share of inputs that must go to the right side, of each kind that is given; of 5 and more, one may always fail.

It does not grow with what was asked for: else one who asks for more could be refused where he would get more.
"""
_FEW = 5
_FEWEST_FEATURES = 16
_MOST_DIGITS = 6


@dataclass(frozen=True)
class Separation:
    """Shares of inputs that go to the right side, and how far from the threshold inputs lie.

    Attributes:
        new: of the new inputs, each judged by a detector of the others.
        held_out: of further new inputs; None if there are none.
        retain: of old inputs, which go to the vendor's side; None if there are none.
        accept: of the new inputs, what was asked for.
        farthest_new: the largest residual of a new input, by a detector of the others, divided by the threshold.
        nearest_old: the least finite residual of an old input, divided by the threshold; None if there is none.
    """

    new: float
    held_out: Optional[float]
    retain: Optional[float]
    accept: float
    farthest_new: float
    nearest_old: Optional[float]

    @property
    def needed(self) -> float:
        """The share that is enough of new inputs: as far below what was asked for as by default, and at most `ENOUGH`."""
        return min(ENOUGH, round(self.accept - (ACCEPT - ENOUGH), _MOST_DIGITS))

    @property
    def margin(self) -> float:
        """By how much the share that is worst off exceeds what is needed of its kind; below 0 if it falls short."""
        limits = ((self.new, self.needed), (self.held_out, self.needed), (self.retain, ENOUGH))
        return min(share - limit for share, limit in limits if share is not None)

    @property
    def has_room(self) -> bool:
        """Whether a new input lies beyond the threshold, so that a larger share would move it."""
        return self.farthest_new > 1

    @property
    def asked_for(self) -> str:
        """What was asked for, in percent."""
        return _plain_percent(self.accept)

    def percent(self, share: float) -> str:
        """Returns a share in so many digits that it is not taken for what is needed, was asked for, or all, if it is less."""
        digits = 0
        while digits < _MOST_DIGITS and any(
            share < limit and f"{share:.{digits}%}" == f"{limit:.{digits}%}"
            for limit in (self.needed, ENOUGH, self.accept, 1.0)
        ):
            digits += 1
        return f"{share:.{digits}%}"

    def __str__(self) -> str:
        shares = (
            (f"new inputs ({self.asked_for} asked for)", self.new),
            ("held-out new inputs", self.held_out),
            ("old inputs", self.retain),
        )
        return ", ".join(f"{self.percent(share)} of the {what}" for what, share in shares if share is not None)


def _plain_percent(number: float) -> str:
    return f"{100 * number:.6g}%"


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


def judge(place: Place, new: Moments, held_out: Optional[Moments], retain: Optional[Moments], accept: float) -> Judged:
    """Fits a detector on new inputs and judges it.

    Raises:
        DataError: it cannot be fitted.
    """
    floor = new.floor()
    fitted = fit(new.features(floor), accept)
    threshold = fitted.threshold
    accepted = fitted.left_out < threshold
    accepted_held_out = sent_back = nearest = None
    if held_out is not None:
        accepted_held_out = fitted.residuals_of(held_out.features(floor)) < threshold
    if retain is not None:
        residuals = fitted.residuals_of(retain.features(floor))
        sent_back = ~(residuals < threshold)  # NaN as well
        finite = residuals[np.isfinite(residuals)]
        nearest = float(finite.min() / threshold) if len(finite) else None
    separation = Separation(
        float(accepted.mean()),
        None if accepted_held_out is None else float(accepted_held_out.mean()),
        None if sent_back is None else float(sent_back.mean()),
        accept,
        float(fitted.left_out.max()) / threshold,
        nearest,
    )
    limits = ((accepted, separation.needed), (accepted_held_out, separation.needed), (sent_back, ENOUGH))
    is_enough = all(_is_enough(right, limit) for right, limit in limits if right is not None)
    return Judged(place, fitted.detector(place.layer, place.value, floor), separation, is_enough)


def _is_enough(right: Bools, needed: float) -> bool:
    """Whether enough of some inputs go to the right side: of few, one tells little."""
    return bool(right.mean() >= needed) or (len(right) >= _FEW and int((~right).sum()) <= 1)


def first_that_separates(
    where: Sequence[Place],
    new: Mapping[Place, Moments],
    held_out: Optional[Mapping[Place, Moments]],
    retain: Optional[Mapping[Place, Moments]],
    accept: float,
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
                accept,
            )
        except DataError as error:
            problem = str(error)
            continue
        if found.is_enough:
            return found
        if best is None or found.separation.margin > best.separation.margin:
            best = found
    if best is None:
        raise DataError(f"no detector can be had: {problem}", remedy="name another layer, or set g by an input")
    shares = best.separation
    needed = _plain_percent(ENOUGH)
    if shares.needed != ENOUGH:
        needed = f"{_plain_percent(shares.needed)} of the new and {needed} of the old"
    wants_more = shares.has_room and (shares.retain is None or shares.retain >= ENOUGH)
    raise DataError(
        f"new inputs cannot be told from others well enough: at best, in front of {best.place.layer!r}, "
        f"{shares} go to the right side, and {needed} are needed",
        remedy=f"give {'a larger `accept`, ' if wants_more else ''}more new inputs, or more alike, name a layer, or "
        "leave the detector out and set g yourself",
    )
