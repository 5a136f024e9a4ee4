"""What evidence says of a round, and what comes of holding that against the vendor's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tgdonnx.records import SetElements
from tgdonnx.selection.strategy import RecordedSelection

Bools = NDArray[np.bool_]
Masks = Mapping[str, NDArray[np.float32]]
Form = Literal["identical", "recomputed", "listed", "recorded"]
FORMS: tuple[Form, ...] = ("identical", "recomputed", "listed", "recorded")
"""From the strongest to the weakest."""


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
        merged: whether side paths are merged into the weights beside them; a masked model does not say that either.
    """

    number: int
    is_first: bool
    selection: RecordedSelection
    masks: Masks = field(repr=False)
    sets: Mapping[str, SetElements] = field(repr=False)
    is_whole: bool
    blend: float = 1.0
    merged: bool = False


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
