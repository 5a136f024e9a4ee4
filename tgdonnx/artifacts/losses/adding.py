"""Put a loss at the end of a graph."""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.artifacts.losses.formula import Loss
from tgdonnx.artifacts.losses.functions import BY_NAME
from tgdonnx.artifacts.losses.logits import before, class_axis
from tgdonnx.errors import UntrainableError
from tgdonnx.graphs.builder import Builder
from tgdonnx.graphs.tensor_specs import TARGET

LOSS = "loss"


def add_loss(model: ir.Model, output: ir.Value, loss: Loss, *, data_range: float = 1.0) -> ir.Value:
    """Adds a loss to the graph and returns it; the graph gets the input `TARGET`.

    Args:
        model: the model, changed in place; no value of it is called `LOSS` or `TARGET`.
        output: what the loss compares; float32.
        loss: which.
        data_range: difference between the largest and the least value that the data may have; for the losses that depend on it.

    Raises:
        UntrainableError: the output is nothing that the loss can compare.
    """
    graph = model.graph
    _require_comparable(output, loss)
    target = ir.Value(name=TARGET, shape=output.shape, type=ir.TensorType(ir.DataType.FLOAT))
    if loss.targets == "classes":
        target.type = ir.TensorType(ir.DataType.INT64)
        if output.shape is not None:
            classes = class_axis(output)
            target.shape = ir.Shape([dim for axis, dim in enumerate(output.shape) if axis != classes])
    graph.inputs.append(target)
    builder = Builder(graph, LOSS)
    result = _sum(builder, loss, output, target, data_range)
    result.name, result.shape, result.type = LOSS, ir.Shape([]), ir.TensorType(ir.DataType.FLOAT)
    graph.extend(builder.nodes)
    return result


def _require_comparable(output: ir.Value, loss: Loss) -> None:
    problem = loss.output_problem(None if output.shape is None else tuple(output.shape))
    if problem is not None:
        raise UntrainableError(problem)
    for function in loss.functions:
        activation = function.logits_of
        if activation is not None and len(loss.terms) > 1 and before(output, activation) is output:
            raise UntrainableError(
                f"in the loss {loss}, {function.name} takes the output for logits and the others compare it with "
                f"probabilities, for the model does not end in {activation}",
                remedy=f"use {function.name} alone, or leave it out",
            )


def _sum(builder: Builder, loss: Loss, y: ir.Value, t: ir.Value, data_range: float) -> ir.Value:
    total = None
    for term in loss.terms:
        value = BY_NAME[term.name].write(builder, y, t, data_range)
        if term.weight != 1:
            value = builder("Mul", value, builder.scalar(term.weight))
        total = value if total is None else builder("Add", total, value)
    assert total is not None
    return total
