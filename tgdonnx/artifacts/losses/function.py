"""What a loss is: the nodes that it writes, and what it asks of outputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Optional

import onnx_ir as ir

from tgdonnx.graphs.builder import Builder

Targets = Literal["values", "probabilities", "classes"]
Sizes = Optional[Sequence[Optional[int]]]


def _no_problem(_: Sizes) -> Optional[str]:
    return None


@dataclass(frozen=True)
class LossFunction:
    """A loss that can be named, alone or in a sum.

    Attributes:
        name: what a user calls it.
        told: what it is, as the guide says it.
        write: writes its nodes, which give a scalar; takes the output, the target, and the range of the data.
        targets: ``values``: an array like the output; ``probabilities``: such an array, in 0 to 1; ``classes``: class indices,
            int64, without the output's axis of classes.
        is_ranged: whether it depends on the range of the data.
        logits_of: the activation at the end of a model of which it compares what goes in; None if it compares the output.
        problem: says why an output of some sizes cannot be compared, with a remedy, or None. Of sizes that are not known it
            gets None, and None in place of all if not even the rank is known.
    """

    name: str
    told: str
    write: Callable[[Builder, ir.Value, ir.Value, float], ir.Value]
    targets: Targets = "values"
    is_ranged: bool = False
    logits_of: Optional[Literal["Sigmoid", "Softmax"]] = None
    problem: Callable[[Sizes], Optional[str]] = _no_problem
