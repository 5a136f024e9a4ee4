"""What a model's output is: logits or what became of them, and which axis counts classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import onnx_ir as ir

from tgdonnx.graphs.operators import is_standard


@dataclass(frozen=True)
class ClassAxis:
    """Which axis of an output counts classes.

    Attributes:
        axis: counted from the front.
        reason: what says so; empty where nothing does and it is 1, as everywhere in ONNX.
    """

    axis: int
    reason: str = ""


def class_axis(y: ir.Value, said: Optional[int] = None) -> ClassAxis:
    """Returns which axis of an output counts classes.

    That is 1, unless the user says another one, or the model says that it is the last: where it ends in a Softmax over it, in a
    Transpose that takes axis 1 there (as exporters of channels-last frameworks write), or in a MatMul with its weights, whose
    columns are the last axis.

    Args:
        y: the output.
        said: the axis that the user says, perhaps counted from the end.
    """
    if said is not None:
        return ClassAxis(said % len(y.shape) if y.shape is not None else said, "the loss says so")
    if y.shape is None or len(y.shape) < 3:
        return ClassAxis(1)
    rank = len(y.shape)
    last = rank - 1
    value: ir.Value | None = y
    while value is not None and (node := value.producer()) is not None and is_standard(node):
        if node.op_type == "Softmax":
            axis = _softmax_axis(node, y)
            return ClassAxis(axis, "the model ends in a Softmax over it") if axis in (1, last) else ClassAxis(1)
        if node.op_type == "Transpose":
            order = node.attributes["perm"].as_ints() if "perm" in node.attributes else ()
            moved = tuple(order) == (0, *range(2, rank), 1)
            return ClassAxis(last, "the model ends in a Transpose that takes axis 1 there") if moved else ClassAxis(1)
        if node.op_type == "MatMul":
            first = node.inputs[0]
            columns = first is None or not first.is_initializer()
            return ClassAxis(last, "the model ends in a MatMul whose columns it is") if columns else ClassAxis(1)
        value = _operand(node)
    return ClassAxis(1)


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
    node = _last(y)
    if node is None or not is_standard(node, activation):
        return y
    if activation == "Softmax" and _softmax_axis(node, y) != axis:
        return y
    assert node.inputs[0] is not None
    return node.inputs[0]


def ends_over_unknown_axis(y: ir.Value) -> bool:
    """Whether the model ends in a Softmax over an axis that is counted from the end, and the output's rank is not known."""
    node = _last(y)
    return node is not None and is_standard(node, "Softmax") and _softmax_axis(node, y) < 0


def _last(y: ir.Value) -> ir.Node | None:
    """Returns the node that an output comes from."""
    node = y.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def _softmax_axis(node: ir.Node, y: ir.Value) -> int:
    """Returns the axis of a Softmax, counted from the front; from the end (negative) if that is all that is known of it.

    Args:
        node: the Softmax.
        y: the output behind it, of as many axes.
    """
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    return axis if y.shape is None else axis % len(y.shape)
