"""Losses that compare element by element (for ce: place by place)."""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.graphs.builder import Builder
from tgdonnx.graphs.operators import is_standard

CHARBONNIER_EPSILON = 1e-3
"""In units of the range of the data, as in Lai et al. (LapSRN, CVPR 2017), whose images lie in [0, 1]."""


def mse(builder: Builder, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes mean((y - t)^2)."""
    difference = builder("Sub", y, t)
    return builder("ReduceMean", builder("Mul", difference, difference), keepdims=0)


def l1(builder: Builder, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes mean(|y - t|)."""
    return builder("ReduceMean", builder("Abs", builder("Sub", y, t)), keepdims=0)


def charbonnier(builder: Builder, y: ir.Value, t: ir.Value, data_range: float) -> ir.Value:
    """Writes mean(sqrt((y - t)^2 + eps^2)): l1, but smooth where y meets t (Charbonnier et al., ICIP 1994)."""
    difference = builder("Sub", y, t)
    epsilon = builder.scalar((CHARBONNIER_EPSILON * data_range) ** 2)
    return builder(
        "ReduceMean", builder("Sqrt", builder("Add", builder("Mul", difference, difference), epsilon)), keepdims=0
    )


def bce(builder: Builder, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes mean(log(1 + exp(x)) - x t), x the logits."""
    x = before(y, "Sigmoid")
    # log(1 + exp(x)) = (x + |x|) / 2 - log(sigmoid(|x|)). The usual max(x, 0) has the wrong derivative at x = 0.
    size = builder("Abs", x)
    half = builder("Div", builder("Add", x, size), builder.scalar(2))
    softplus = builder("Sub", half, builder("Log", builder("Sigmoid", size)))
    return builder("ReduceMean", builder("Sub", softplus, builder("Mul", x, t)), keepdims=0)


def ce(builder: Builder, y: ir.Value, t: ir.Value) -> ir.Value:
    """Writes the softmax cross-entropy over the axis of classes."""
    axis = class_axis(y)
    x = before(y, "Softmax", axis)
    if axis != 1:
        assert y.shape is not None
        x = builder("Transpose", x, perm=[0, axis, *(other for other in range(1, len(y.shape)) if other != axis)])
    return builder.several("SoftmaxCrossEntropyLoss", [x, t], {}, 2)[0]  # the gradient wants the second


def class_axis(y: ir.Value) -> int:
    """Returns which axis of an output counts classes.

    That is 1, unless the model says that it is the last: where it ends in a Softmax over it, in a Transpose that takes axis 1
    there (as exporters of channels-last frameworks write), or in a MatMul with its weights, whose columns are the last axis.
    """
    rank = len(y.shape) if y.shape is not None else 0
    if rank < 3:
        return 1
    value: ir.Value | None = y
    while value is not None and (node := value.producer()) is not None and is_standard(node):
        if node.op_type == "Softmax":
            axis = _softmax_axis(node) % rank
            return axis if axis in (1, rank - 1) else 1
        if node.op_type == "Transpose":
            order = node.attributes["perm"].as_ints() if "perm" in node.attributes else ()
            return rank - 1 if tuple(order) == (0, *range(2, rank), 1) else 1
        if node.op_type == "MatMul":
            first = node.inputs[0]
            return 1 if first is not None and first.is_initializer() else rank - 1
        value = _operand(node)
    return 1


def _operand(node: ir.Node) -> ir.Value | None:
    """Returns what a node passes on place by place: a bias added to it, or a factor, is no reason to stop."""
    if node.op_type in ("Identity", "Cast", "Relu", "Dropout"):
        return node.inputs[0]
    if node.op_type not in ("Add", "Mul"):
        return None
    computed = [value for value in node.inputs if value is not None and value.producer() is not None]
    return computed[0] if len(computed) == 1 else None


def before(y: ir.Value, activation: str, axis: int = 1) -> ir.Value:
    """Returns what goes into the activation that the model ends in, or ``y`` if it ends otherwise.

    Args:
        y: the output.
        activation: ``Sigmoid`` or ``Softmax``.
        axis: that of the Softmax; one over another axis does not count.
    """
    node = y.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or not is_standard(node, activation):
        return y
    if activation == "Softmax":
        rank = len(y.shape) if y.shape is not None else 0
        if not rank or _softmax_axis(node) % rank != axis:
            return y
    assert node.inputs[0] is not None
    return node.inputs[0]


def _softmax_axis(node: ir.Node) -> int:
    return node.attributes["axis"].as_int() if "axis" in node.attributes else -1
