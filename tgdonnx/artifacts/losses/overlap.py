"""Losses of how far regions overlap, one minus the Dice coefficient (Milletari et al., 3DV 2016, without squares).

    1 - (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth)

The sums are over the places of one sample and one channel or class, and the loss is the mean of these. Where neither output
nor target has anything it is near 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, final

import onnx_ir as ir

from tgdonnx.artifacts.losses.classes import class_logits, class_problem, labels_of
from tgdonnx.artifacts.losses.function import Compared, LossFunction, Sizes, shown
from tgdonnx.artifacts.losses.logits import before
from tgdonnx.files.typed import Above0
from tgdonnx.graphs.builder import Builder


@final
@dataclass(frozen=True)
class Dice(LossFunction):
    """Of every channel, p = sigmoid(x)."""

    name = "dice"
    told = "one minus the Dice coefficient of every channel of masks; targets lie in 0 to 1; smooth (1) is added to both sums"
    targets = "probabilities"
    logits_of = "Sigmoid"

    smooth: Above0 = 1.0

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        p = builder("Sigmoid", before(compared.y, "Sigmoid"))
        return _dice(builder, p, compared.t, self.smooth, like=compared.y)

    def problem(self, sizes: Sizes, class_axis: int) -> Optional[str]:  # noqa: ARG002  # channels are no classes
        """Returns why an output cannot be compared; see `LossFunction`."""
        return _needs_places(self.name, sizes)


@final
@dataclass(frozen=True)
class ClassDice(LossFunction):
    """Of every class, p = softmax(x); places whose label is ``ignore`` are in none of the sums."""

    name = "class_dice"
    told = (
        "one minus the Dice coefficient of every class; targets are class indices; smooth (1) is added to both sums; with "
        "ignore and axis as ce"
    )
    targets = "classes"
    logits_of = "Softmax"

    smooth: Above0 = 1.0
    ignore: Optional[int] = None
    axis: Optional[int] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        x = class_logits(builder, compared)
        labels = labels_of(builder, x, compared.t, self.ignore)
        valid = builder("Unsqueeze", labels.valid, builder.ints(1))
        p = builder("Mul", builder("Softmax", x, axis=1), valid)
        return _dice(builder, p, builder("Mul", labels.one_hot, valid), self.smooth, like=compared.y)

    def problem(self, sizes: Sizes, class_axis: int) -> Optional[str]:
        """Returns why an output cannot be compared; see `LossFunction`."""
        return _needs_places(self.name, sizes) or class_problem(self.name, sizes, class_axis, said=self.axis)


def _dice(builder: Builder, p: ir.Value, t: ir.Value, smooth: float, *, like: ir.Value) -> ir.Value:
    """Writes the mean over samples and channels; ``like`` is of known rank."""
    assert like.shape is not None
    places, added = list(range(2, len(like.shape))), builder.scalar(smooth)
    both = builder.sum(builder("Mul", p, t), places, keepdims=False)
    sums = builder.sum(builder("Add", p, t), places, keepdims=False)
    twice = builder("Add", builder("Mul", both, builder.scalar(2)), added)
    overlap = builder("ReduceMean", builder("Div", twice, builder("Add", sums, added)), keepdims=0)
    return builder("Sub", builder.scalar(1), overlap)


def _needs_places(name: str, sizes: Sizes) -> Optional[str]:
    if sizes is None:
        return f"the loss {name} needs an output of known rank; declare the shapes of the model's inputs, or use another loss"
    if len(sizes) < 3:
        return f"the loss {name} needs an output with axes of space, over which it sums; found {shown(sizes)}; use another loss"
    return None
