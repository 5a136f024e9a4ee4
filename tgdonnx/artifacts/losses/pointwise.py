"""Losses that compare element by element (for ce: place by place)."""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.artifacts.losses.function import LossFunction
from tgdonnx.artifacts.losses.logits import before, class_axis
from tgdonnx.graphs.builder import Builder

CHARBONNIER_EPSILON = 1e-3
"""In units of the range of the data, as in Lai et al. (LapSRN, CVPR 2017), whose images lie in [0, 1]."""


def mse(builder: Builder, y: ir.Value, t: ir.Value, _: float) -> ir.Value:
    """Writes mean((y - t)^2)."""
    difference = builder("Sub", y, t)
    return builder("ReduceMean", builder("Mul", difference, difference), keepdims=0)


def l1(builder: Builder, y: ir.Value, t: ir.Value, _: float) -> ir.Value:
    """Writes mean(|y - t|)."""
    return builder("ReduceMean", builder("Abs", builder("Sub", y, t)), keepdims=0)


def charbonnier(builder: Builder, y: ir.Value, t: ir.Value, data_range: float) -> ir.Value:
    """Writes mean(sqrt((y - t)^2 + eps^2)): l1, but smooth where y meets t (Charbonnier et al., ICIP 1994)."""
    difference = builder("Sub", y, t)
    epsilon = builder.scalar((CHARBONNIER_EPSILON * data_range) ** 2)
    return builder(
        "ReduceMean", builder("Sqrt", builder("Add", builder("Mul", difference, difference), epsilon)), keepdims=0
    )


def bce(builder: Builder, y: ir.Value, t: ir.Value, _: float) -> ir.Value:
    """Writes mean(log(1 + exp(x)) - x t), x the logits."""
    x = before(y, "Sigmoid")
    # log(1 + exp(x)) = (x + |x|) / 2 - log(sigmoid(|x|)). The usual max(x, 0) has the wrong derivative at x = 0.
    size = builder("Abs", x)
    half = builder("Div", builder("Add", x, size), builder.scalar(2))
    softplus = builder("Sub", half, builder("Log", builder("Sigmoid", size)))
    return builder("ReduceMean", builder("Sub", softplus, builder("Mul", x, t)), keepdims=0)


def ce(builder: Builder, y: ir.Value, t: ir.Value, _: float) -> ir.Value:
    """Writes the softmax cross-entropy over the axis of classes."""
    axis = class_axis(y)
    x = before(y, "Softmax", axis)
    if axis != 1:
        assert y.shape is not None
        x = builder("Transpose", x, perm=[0, axis, *(other for other in range(1, len(y.shape)) if other != axis)])
    return builder.several("SoftmaxCrossEntropyLoss", [x, t], {}, 2)[0]  # the gradient wants the second


MSE = LossFunction("mse", "mean of the squared differences", mse)
L1 = LossFunction("l1", "mean of the absolute differences", l1)
BCE = LossFunction(
    "bce", "binary cross-entropy; targets lie in 0 to 1", bce, targets="probabilities", logits_of="Sigmoid"
)
CE = LossFunction("ce", "softmax cross-entropy; targets are class indices", ce, targets="classes", logits_of="Softmax")
CHARBONNIER = LossFunction("charbonnier", "l1, but smooth near 0", charbonnier, is_ranged=True)
