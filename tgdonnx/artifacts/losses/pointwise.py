"""Losses that compare element by element (for ce: place by place)."""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.artifacts.losses.pen import Pen

CHARBONNIER_EPSILON = 1e-3
"""In units of the range of the data, as in Lai et al. (LapSRN, CVPR 2017), whose images lie in [0, 1]."""


def mse(pen: Pen, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes mean((y - t)^2)."""
    difference = pen("Sub", y, t)
    return pen("ReduceMean", pen("Mul", difference, difference), keepdims=0)


def l1(pen: Pen, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes mean(|y - t|)."""
    return pen("ReduceMean", pen("Abs", pen("Sub", y, t)), keepdims=0)


def charbonnier(pen: Pen, y: ir.Value, t: ir.Value, data_range: float) -> ir.Value:
    """Writes mean(sqrt((y - t)^2 + eps^2)): l1, but smooth where y meets t (Charbonnier et al., ICIP 1994)."""
    difference = pen("Sub", y, t)
    epsilon = pen.scalar((CHARBONNIER_EPSILON * data_range) ** 2)
    return pen("ReduceMean", pen("Sqrt", pen("Add", pen("Mul", difference, difference), epsilon)), keepdims=0)


def bce(pen: Pen, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes mean(log(1 + exp(x)) - x t), x the logits."""
    x = before(y, "Sigmoid")
    # log(1 + exp(x)) = (x + |x|) / 2 - log(sigmoid(|x|)). The usual max(x, 0) has the wrong derivative at x = 0.
    size = pen("Abs", x)
    half = pen("Div", pen("Add", x, size), pen.scalar(2))
    softplus = pen("Sub", half, pen("Log", pen("Sigmoid", size)))
    return pen("ReduceMean", pen("Sub", softplus, pen("Mul", x, t)), keepdims=0)


def ce(pen: Pen, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes the softmax cross-entropy over axis 1."""
    return pen("SoftmaxCrossEntropyLoss", before(y, "Softmax"), t, outputs=2)  # the gradient wants the second


def before(y: ir.Value, activation: str) -> ir.Value:
    """Returns what goes into the activation that the model ends in, or ``y`` if it ends otherwise."""
    node = y.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != activation or node.domain not in ("", "ai.onnx"):
        return y
    if activation == "Softmax":
        rank = len(y.shape) if y.shape is not None else 0
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        if not rank or axis % rank != 1:
            return y
    assert node.inputs[0] is not None
    return node.inputs[0]
