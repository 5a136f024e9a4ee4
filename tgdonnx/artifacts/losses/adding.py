"""Put what is minimised at the end of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from tgdonnx.artifacts.losses.formula import Loss
from tgdonnx.artifacts.losses.function import Compared
from tgdonnx.artifacts.losses.logits import ClassAxis, before, class_axis, ends_over_unknown_axis
from tgdonnx.errors import UntrainableError
from tgdonnx.graphs.builder import Builder, fresh_name
from tgdonnx.graphs.tensor_specs import TARGET

LOSS = "loss"


@dataclass(frozen=True)
class AddedLoss:
    """The loss of one output, in the graph.

    Attributes:
        value: a scalar.
        target: the graph input that the output is compared with.
        class_axis: the axis of the output that counts classes; None if none does.
        weights: for names of arrays of the data the graph inputs for them.
    """

    value: ir.Value
    target: ir.Value
    class_axis: ClassAxis | None = None
    weights: Mapping[str, ir.Value] = field(default_factory=dict)


def add_loss(model: ir.Model, output: ir.Value, loss: Loss, *, data_range: float = 1.0) -> ir.Value:
    """Adds a loss of one output to the graph and returns it; the graph gets the input `TARGET`, and those of weights.

    Args:
        model: the model, changed in place; no value of it is called `LOSS` or `TARGET`.
        output: what the loss compares; float32.
        loss: which.
        data_range: difference between the largest and the least value that the data may have; for the losses that depend on it.

    Raises:
        UntrainableError: the output is nothing that the loss can compare.
    """
    return add_losses(model, [(output, loss)], data_range=data_range)[1]


def add_losses(
    model: ir.Model, parts: Sequence[tuple[ir.Value, Loss]], *, data_range: float = 1.0
) -> tuple[tuple[AddedLoss, ...], ir.Value]:
    """Adds the losses of outputs to the graph; returns them, and their sum.

    The graph gets an input per target, called `TARGET` where there is one output, and one per array of weights, behind those.

    Args:
        model: as of `add_loss`.
        parts: the outputs, each float32, with what is minimised of them.
        data_range: as of `add_loss`.

    Raises:
        UntrainableError: an output is nothing that its loss can compare.
    """
    graph = model.graph
    builder = Builder(graph, LOSS)
    names = [TARGET if len(parts) == 1 else fresh_name(graph, f"{TARGET}.{output.name}") for output, _ in parts]
    targets = [_target(output, loss, name) for (output, loss), name in zip(parts, names)]
    graph.inputs.extend(target for target, _ in targets)
    weights: dict[str, ir.Value] = {}
    added = []
    for (output, loss), (target, axis) in zip(parts, targets):
        for name in loss.weights:
            if name not in weights:
                weights[name] = _weight(output, fresh_name(graph, f"weight.{name}"))
                graph.inputs.append(weights[name])
        value = _sum(builder, loss, Compared(output, target, None, data_range, axis.axis if axis else 1), weights)
        added.append(AddedLoss(value, target, axis, {name: weights[name] for name in loss.weights}))
    total = added[0].value
    for each in added[1:]:
        total = builder("Add", total, each.value)
    for scalar in (*(each.value for each in added), total):
        scalar.shape, scalar.type = ir.Shape([]), ir.TensorType(ir.DataType.FLOAT)
    total.name = LOSS
    graph.extend(builder.nodes)
    return tuple(added), total


def _target(output: ir.Value, loss: Loss, name: str) -> tuple[ir.Value, ClassAxis | None]:
    if loss.targets == "classes" and ends_over_unknown_axis(output):
        raise UntrainableError(
            f"the model ends in a Softmax over the last axis, and the rank of the output {output.name!r} is not known, so "
            f"the loss {loss} cannot tell which axis counts classes",
            remedy="declare the shapes of the model's inputs",
        )
    axis = class_axis(output, loss.axis) if loss.targets == "classes" else None
    _require_comparable(output, loss, axis)
    target = ir.Value(name=name, shape=output.shape, type=ir.TensorType(ir.DataType.FLOAT))
    if axis is not None:
        target.type = ir.TensorType(ir.DataType.INT64)
        if output.shape is not None:
            target.shape = ir.Shape([dim for place, dim in enumerate(output.shape) if place != axis.axis])
    return target, axis


def _weight(output: ir.Value, name: str) -> ir.Value:
    """Returns the input for weights of an output's elements: like it, or one for all channels."""
    shape = None
    if output.shape is not None:
        shape = ir.Shape([None if place == 1 and len(output.shape) > 2 else d for place, d in enumerate(output.shape)])
    return ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.FLOAT))


def _require_comparable(output: ir.Value, loss: Loss, axis: ClassAxis | None) -> None:
    problem = loss.output_problem(None if output.shape is None else tuple(output.shape), axis.axis if axis else 1)
    if problem is not None:
        raise UntrainableError(problem)
    others = [function.name for function in loss.functions if function.logits_of is None]
    for function in loss.functions:
        activation = function.logits_of
        if activation is not None and others and before(output, activation) is output:
            raise UntrainableError(
                f"in the loss {loss}, {function.name} takes the output for logits and the others compare it with "
                f"probabilities, for the model does not end in {activation}",
                remedy=f"use {function.name} alone, or leave it out",
            )


def _sum(builder: Builder, loss: Loss, compared: Compared, weights: Mapping[str, ir.Value]) -> ir.Value:
    total = None
    for term in loss.terms:
        weight = weights.get(getattr(term.function, "weight", None) or "")
        value = term.function.write(builder, replace(compared, weight=weight))
        if term.weight != 1:
            value = builder("Mul", value, builder.scalar(term.weight))
        total = value if total is None else builder("Add", total, value)
    assert total is not None
    return total
