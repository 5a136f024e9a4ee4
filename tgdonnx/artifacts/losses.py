"""Losses, as nodes at the end of the graph.

Each takes the model's output and a new graph input ``target`` and gives the scalar ``loss``, a mean over all elements.

    mse   mean((y - t)^2)
    l1    mean(|y - t|)
    bce   mean(log(1 + exp(x)) - x t), x the logits: binary cross-entropy, in a form that does not overflow
    ce    softmax cross-entropy over axis 1 of the logits; t holds class indices, int64, without that axis

Where the model ends in Sigmoid (bce) or in Softmax over axis 1 (ce), the logits are what goes into it. Otherwise the
output itself is taken for logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Union

import numpy as np
import onnx_ir as ir

from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.rewriting import PREFIX

LossName = Literal["mse", "l1", "bce", "ce"]
LOSSES: tuple[LossName, ...] = ("mse", "l1", "bce", "ce")
LOSS, TARGET = "loss", "target"


def add_loss(model: ir.Model, output: ir.Value, name: LossName) -> ir.Value:
    """Adds a loss to the graph and returns it; the graph gets the input `TARGET`.

    Args:
        model: the model, changed in place.
        output: what the loss compares; float32.
        name: which loss.

    Raises:
        UntrainableError: a name that is needed is taken, or the operator set is too old for the loss.
    """
    graph = model.graph
    taken = {value.name for value in graph.inputs} | set(graph.initializers)
    taken |= {value.name for node in graph for value in node.outputs}
    for word in (LOSS, TARGET):
        if word in taken:
            raise UntrainableError(f"a value of the model is called {word!r}, a name that training needs; rename it")
    target = ir.Value(name=TARGET, shape=output.shape, type=ir.TensorType(ir.DataType.FLOAT))
    if name == "ce":
        target.type = ir.TensorType(ir.DataType.INT64)
        if output.shape is not None:
            target.shape = ir.Shape([dim for axis, dim in enumerate(output.shape) if axis != 1])
    graph.inputs.append(target)
    nodes: list[ir.Node] = []

    def op(op_type: str, *inputs: ir.Value, outputs: int = 1, **attributes: Union[int, ir.TensorProtocol]) -> ir.Value:
        nodes.append(ir.node(op_type, inputs, attributes, num_outputs=outputs))
        for index, value in enumerate(nodes[-1].outputs):
            value.name = f"{PREFIX}{LOSS}.{len(nodes)}.{index}"
        return nodes[-1].outputs[0]

    loss = _LOSSES[name](op, output, target)
    loss.name, loss.shape, loss.type = LOSS, ir.Shape([]), ir.TensorType(ir.DataType.FLOAT)
    graph.extend(nodes)
    return loss


_Op = Callable[..., ir.Value]


def _mse(op: _Op, y: ir.Value, t: ir.Value) -> ir.Value:
    difference = op("Sub", y, t)
    return op("ReduceMean", op("Mul", difference, difference), keepdims=0)


def _l1(op: _Op, y: ir.Value, t: ir.Value) -> ir.Value:
    return op("ReduceMean", op("Abs", op("Sub", y, t)), keepdims=0)


def _bce(op: _Op, y: ir.Value, t: ir.Value) -> ir.Value:
    x = _before(y, "Sigmoid")
    # log(1 + exp(x)) = (x + |x|) / 2 - log(sigmoid(|x|)). The usual max(x, 0) has the wrong derivative at x = 0.
    size = op("Abs", x)
    half = op("Div", op("Add", x, size), op("Constant", value=ir.tensor(np.float32(2))))
    softplus = op("Sub", half, op("Log", op("Sigmoid", size)))
    return op("ReduceMean", op("Sub", softplus, op("Mul", x, t)), keepdims=0)


def _ce(op: _Op, y: ir.Value, t: ir.Value) -> ir.Value:
    return op("SoftmaxCrossEntropyLoss", _before(y, "Softmax"), t, outputs=2)  # the gradient wants the second


def _before(y: ir.Value, activation: str) -> ir.Value:
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


_LOSSES: dict[LossName, Callable[[_Op, ir.Value, ir.Value], ir.Value]] = {
    "mse": _mse,
    "l1": _l1,
    "bce": _bce,
    "ce": _ce,
}
