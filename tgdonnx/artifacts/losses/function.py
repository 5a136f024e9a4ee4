"""What a loss is: its parameters, the nodes that it writes, and what it asks of outputs and targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Optional

import onnx_ir as ir

from tgdonnx.graphs.builder import Builder

Targets = Literal["values", "probabilities", "classes"]
Sizes = Optional[Sequence[Optional[int]]]


@dataclass(frozen=True)
class Compared:
    """What a loss compares.

    Attributes:
        y: the output; float32.
        t: its target.
        weight: what every element of the target counts; None where all count the same.
        data_range: difference between the largest and the least value that the data may have.
        class_axis: the axis of the output that counts classes; of losses of class indices.
    """

    y: ir.Value
    t: ir.Value
    weight: Optional[ir.Value] = None
    data_range: float = 1.0
    class_axis: int = 1


@dataclass(frozen=True)
class LossFunction(ABC):
    """A loss that can be named, alone or in a sum. The fields of its class are its parameters, with what they are if not said.

    Attributes:
        name: what a user calls it.
        told: what it is, as the guide says it.
        targets: ``values``: an array like the output; ``probabilities``: such an array, in 0 to 1; ``classes``: class indices,
            int64, without the output's axis of classes.
        is_ranged: whether it depends on the range of the data.
        logits_of: the activation at the end of a model of which it compares what goes in; None if it compares the output.
    """

    name: ClassVar[str]
    told: ClassVar[str]
    targets: ClassVar[Targets] = "values"
    is_ranged: ClassVar[bool] = False
    logits_of: ClassVar[Optional[Literal["Sigmoid", "Softmax"]]] = None

    @abstractmethod
    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes; returns a scalar."""

    def problem(self, sizes: Sizes, class_axis: int) -> Optional[str]:  # noqa: ARG002  # most compare whatever comes
        """Returns why an output of some sizes cannot be compared, with a remedy, or None.

        Args:
            sizes: of the axes; None where one is not known, and None in place of all if not even the rank is.
            class_axis: the axis that counts classes, of losses of class indices.
        """
        return None


def shown(sizes: Sequence[Optional[int]]) -> str:
    """Returns sizes for a message."""
    return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"
