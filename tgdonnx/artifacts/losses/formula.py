"""What a loss is made of, and what it asks of outputs and targets.

    loss = term { "+" term }
    term = [ weight "*" ] name

A weight is a positive decimal number; every name occurs once. Spaces do not matter. ``ce`` stands alone: its targets are class
indices, those of the others are arrays like the output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Optional, cast

from tgdonnx.artifacts.losses.ssim import WINDOW
from tgdonnx.errors import ArtifactsError

LossName = Literal["mse", "l1", "bce", "ce", "charbonnier", "ssim"]
LOSSES: tuple[LossName, ...] = ("mse", "l1", "bce", "ce", "charbonnier", "ssim")

_TERM = re.compile(
    r"\s*(?:(?P<weight>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*\*\s*)?(?P<name>[A-Za-z_]\w*)\s*(?P<end>\+|$)"
)


@dataclass(frozen=True)
class Term:
    """One loss in a sum.

    Attributes:
        weight: its factor, positive.
        name: which loss.
    """

    weight: float
    name: LossName


@dataclass(frozen=True)
class Loss:
    """A sum of losses.

    Attributes:
        terms: in the order in which they were written.
    """

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "+".join(term.name if term.weight == 1 else f"{term.weight!r}*{term.name}" for term in self.terms)

    @property
    def names(self) -> frozenset[LossName]:
        """Which losses occur."""
        return frozenset(term.name for term in self.terms)

    def target_shape(self, output: tuple[int, ...], class_axis: int = 1) -> tuple[int, ...]:
        """Returns the shape of the targets for an output of this shape."""
        return output[:class_axis] + output[class_axis + 1 :] if "ce" in self.names else output

    def target_limit(self, output: tuple[int, ...], class_axis: int = 1) -> Optional[int]:
        """Returns the largest value of a target, where the least is 0; None where any value goes."""
        if "ce" in self.names:
            return output[class_axis] - 1 if len(output) > 1 else 0
        return 1 if "bce" in self.names else None

    def output_problem(self, output: Optional[Sequence[object]]) -> Optional[str]:
        """Returns why an output of this shape cannot be compared, with a remedy, or None.

        Args:
            output: the sizes of its axes; what is no whole number is not known. None if not even the rank is known.
        """
        if "ssim" not in self.names:
            return None
        if output is None:
            return "the loss ssim needs an output of known rank; declare its shape, or use another loss"
        sizes = [size if isinstance(size, int) and size > 0 else None for size in output]
        shown = f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"
        if not 3 <= len(sizes) <= 5:
            return (
                "the loss ssim needs an output with the axes sample, channel, and one to three of space; "
                f"found {shown}; use another loss"
            )
        if any(size is not None and size < WINDOW for size in sizes[2:]):
            return (
                f"the loss ssim needs an output of at least {WINDOW} along every axis of space, the size of its window; "
                f"found {shown}; use larger images or patches, or another loss"
            )
        return None


def parse_loss(text: str) -> Loss:
    """Reads a loss such as ``l1`` or ``0.8*l1+0.2*ssim``.

    >>> parse_loss("0.8*l1 + 0.2*ssim").terms
    (Term(weight=0.8, name='l1'), Term(weight=0.2, name='ssim'))

    Raises:
        ArtifactsError: it is none.
    """
    terms: list[Term] = []
    position, more = 0, True
    while more:
        match = _TERM.match(text, position)
        if match is None or match["name"] not in LOSSES:
            raise ArtifactsError(
                f"expected loss to be one of {', '.join(LOSSES)}, or a weighted sum such as 0.8*l1+0.2*ssim; got {text!r}"
            )
        weight = 1.0 if match["weight"] is None else float(match["weight"])
        if not (math.isfinite(weight) and weight > 0):
            raise ArtifactsError(
                f"expected weights > 0 in the loss {text!r}; got {match['weight']} for {match['name']}"
            )
        terms.append(Term(weight, cast(LossName, match["name"])))
        position, more = match.end(), match["end"] == "+"
    loss = Loss(tuple(terms))
    if len(loss.names) < len(terms):
        raise ArtifactsError(f"expected every loss once; got {text!r}")
    if "ce" in loss.names and len(terms) > 1:
        raise ArtifactsError(
            f"the loss ce goes with no other: its targets are class indices, theirs are like the output; got {text!r}"
        )
    return loss
