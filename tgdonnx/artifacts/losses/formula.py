"""What a loss is made of, and what it asks of outputs and targets.

    loss = term { "+" term }
    term = [ weight "*" ] name

A weight is a positive decimal number; every name occurs once. Spaces do not matter. A loss whose targets are class indices
stands alone: those of the others are arrays like the output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from tgdonnx.artifacts.losses.function import LossFunction, Targets
from tgdonnx.artifacts.losses.functions import BY_NAME, LOSSES
from tgdonnx.errors import ArtifactsError

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
    name: str


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
    def functions(self) -> tuple[LossFunction, ...]:
        """Which losses occur."""
        return tuple(BY_NAME[term.name] for term in self.terms)

    @property
    def targets(self) -> Targets:
        """What targets are: the narrowest of what the losses ask for."""
        asked = {function.targets for function in self.functions}
        return "classes" if "classes" in asked else "probabilities" if "probabilities" in asked else "values"

    def target_shape(self, output: tuple[int, ...], class_axis: int = 1) -> tuple[int, ...]:
        """Returns the shape of the targets for an output of this shape."""
        return output[:class_axis] + output[class_axis + 1 :] if self.targets == "classes" else output

    def target_limit(self, output: tuple[int, ...], class_axis: int = 1) -> Optional[int]:
        """Returns the largest value of a target, where the least is 0; None where any value goes."""
        if self.targets == "classes":
            return output[class_axis] - 1 if len(output) > 1 else 0
        return 1 if self.targets == "probabilities" else None

    def output_problem(self, output: Optional[Sequence[object]]) -> Optional[str]:
        """Returns why an output of this shape cannot be compared, with a remedy, or None.

        Args:
            output: the sizes of its axes; what is no whole number is not known. None if not even the rank is known.
        """
        sizes = None if output is None else [size if isinstance(size, int) and size > 0 else None for size in output]
        problems = (function.problem(sizes) for function in self.functions)
        return next((problem for problem in problems if problem is not None), None)


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
        terms.append(Term(weight, match["name"]))
        position, more = match.end(), match["end"] == "+"
    loss = Loss(tuple(terms))
    if len({term.name for term in terms}) < len(terms):
        raise ArtifactsError(f"expected every loss once; got {text!r}")
    alone = next((function.name for function in loss.functions if function.targets == "classes"), None)
    if alone is not None and len(terms) > 1:
        raise ArtifactsError(
            f"the loss {alone} goes with no other: its targets are class indices, theirs are like the output; got {text!r}"
        )
    return loss
