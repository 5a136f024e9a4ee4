"""Losses of class indices that compare place by place, by the softmax of the logits over the axis of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Optional, final

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.artifacts.losses.classes import class_logits, class_problem, labels_of, require_weights
from tgdonnx.artifacts.losses.function import Compared, LossFunction, Sizes
from tgdonnx.artifacts.losses.means import quotient
from tgdonnx.files.typed import AtLeast0
from tgdonnx.graphs.builder import Builder

Below1 = Annotated[float, msgspec.Meta(ge=0, lt=1)]
_TINY = 1e-12  # keeps the slope of u^gamma finite at u = 0 for powers below 1


@final
@dataclass(frozen=True)
class Ce(LossFunction):
    """Softmax cross-entropy.

    With class weights w and smoothing s, over places i with label t and K classes:

        sum_i((1 - s) w_t (-log p_t) + s / K sum_c(w_c (-log p_c))) / sum_i(w_t)
    """

    name = "ce"
    told = (
        "softmax cross-entropy; targets are class indices; ignore is a label that does not count, class_weights is a "
        "factor per class, smoothing the share of every label that is spread over all classes, axis the output's of classes"
    )
    targets = "classes"
    logits_of = "Softmax"

    ignore: Optional[int] = None
    class_weights: tuple[AtLeast0, ...] = ()
    smoothing: Below1 = 0.0
    axis: Optional[int] = None

    def __post_init__(self) -> None:
        require_weights(self.class_weights)

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        x = class_logits(builder, compared)
        if self.ignore is None and not self.class_weights and not self.smoothing:
            return builder.several("SoftmaxCrossEntropyLoss", [x, compared.t], {}, 2)[
                0
            ]  # the gradient wants the second
        labels = labels_of(builder, x, compared.t, self.ignore)
        logs = builder("LogSoftmax", x, axis=1)
        weights = None if not self.class_weights else np.array(self.class_weights, np.float32)
        counted, shares = labels.valid, labels.one_hot
        if weights is not None:
            counted = builder("Mul", builder("Gather", builder.constant(weights), labels.inside, axis=0), counted)
        shares = builder("Mul", shares, builder("Unsqueeze", counted, builder.ints(1)))
        if self.smoothing:
            shares = builder("Mul", shares, builder.scalar(1 - self.smoothing))
            spread = builder(
                "Mul", builder("Unsqueeze", labels.valid, builder.ints(1)), _per_class(builder, x, weights)
            )
            count = builder.cast(builder("Shape", x, start=1, end=2), x)
            spread = builder("Mul", spread, builder("Div", builder.scalar(self.smoothing), count))
            shares = builder("Add", shares, spread)
        return builder("Neg", quotient(builder, builder("Mul", shares, logs), counted))

    def problem(self, sizes: Sizes, class_axis: int) -> Optional[str]:
        """Returns why an output cannot be compared; see `LossFunction`."""
        return class_problem(self.name, sizes, class_axis, said=self.axis, weights=self.class_weights)


@final
@dataclass(frozen=True)
class ClassFocal(LossFunction):
    """sum_i(w_t (1 - p_t)^gamma (-log p_t)) / sum_i(w_t), p the softmax (Lin et al., ICCV 2017, of several classes)."""

    name = "class_focal"
    told = (
        "ce, with less weight on what is right already, by the power gamma (2); with ignore, class_weights and axis "
        "as ce"
    )
    targets = "classes"
    logits_of = "Softmax"

    gamma: AtLeast0 = 2.0
    ignore: Optional[int] = None
    class_weights: tuple[AtLeast0, ...] = ()
    axis: Optional[int] = None

    def __post_init__(self) -> None:
        require_weights(self.class_weights)

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        x = class_logits(builder, compared)
        labels = labels_of(builder, x, compared.t, self.ignore)
        log_p = builder.sum(builder("Mul", labels.one_hot, builder("LogSoftmax", x, axis=1)), [1], keepdims=False)
        # 1 - p as the sum of all others keeps its digits where p is near 1, and is never negative.
        others = builder("Mul", builder("Sub", builder.scalar(1), labels.one_hot), builder("Softmax", x, axis=1))
        rest = builder("Add", builder.sum(others, [1], keepdims=False), builder.scalar(_TINY))
        elements = builder("Mul", builder("Pow", rest, builder.scalar(self.gamma)), builder("Neg", log_p))
        counted = labels.valid
        if self.class_weights:
            weights = builder.constant(np.array(self.class_weights, np.float32))
            counted = builder("Mul", builder("Gather", weights, labels.inside, axis=0), counted)
        return quotient(builder, builder("Mul", elements, counted), counted)

    def problem(self, sizes: Sizes, class_axis: int) -> Optional[str]:
        """Returns why an output cannot be compared; see `LossFunction`."""
        return class_problem(self.name, sizes, class_axis, said=self.axis, weights=self.class_weights)


def _per_class(builder: Builder, x: ir.Value, weights: Optional[NDArray[Any]]) -> ir.Value:
    """Returns a factor per class that spreads over all places."""
    if weights is None:
        return builder("Expand", builder.scalar(1), builder("Shape", x))
    assert x.shape is not None
    return builder.constant(weights.reshape(1, -1, *(1,) * (len(x.shape) - 2)))
