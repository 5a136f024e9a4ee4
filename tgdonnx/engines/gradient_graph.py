"""The gradient of a problem, of which each engine makes its models: our own, alike for all of them.

What moves a parameter p is the gradient of the loss, with the regularisers, masked (TGD, eq. 4: alike):

    gate      dL/dy  -> M * dL/dy                      for the output y of a layer, before anything reads the gradient of y
    l2        dL/dp  -> dL/dp + l2 * p                 for weights
    l2_sp     dL/dp  -> dL/dp + l2_sp * (p - p0)       for every parameter, p0 its value at the start
    mask      dL/dp  -> M * dL/dp                      for every parameter p with frozen elements

A frozen element's gradient is exactly zero, so neither AdamW without weight decay nor SGD, nor clipping by the norm, moves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import onnx_ir as ir
from onnx_ir.passes import common as passes

from tgdonnx.engines.protocol import Objective, part_losses
from tgdonnx.gradients import RULES, Rules, differentiate
from tgdonnx.graphs.builder import PREFIX, Builder
from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering.fake_quantize import expand_fake_quantize


@dataclass(frozen=True)
class GradientGraph:
    """A forward graph with its way back.

    What is found nearest to the loss comes last. The runtime goes from the last node that nobody reads to the first, and
    computes just what each needs. So what is made of a gradient comes before the way back goes on, and activations are let go
    of on the way; in the other order it would go to its end first, and every gradient of an activation would be kept until
    then.

    Attributes:
        model: its outputs are the loss, and of several outputs the loss of each; the parameters are its last inputs.
        parameters: these inputs, in the order of their gradients.
        gradients: of the loss by them, neither regularised nor masked; the last found first.
    """

    model: ir.Model
    parameters: tuple[ir.Value, ...]
    gradients: tuple[ir.Value, ...]


def gradient_graph(
    forward: ir.Model, parameters: Sequence[str], objective: Objective, rules: Rules = RULES
) -> GradientGraph:
    """Returns a graph with the gradients of its loss.

    Args:
        forward: its first output is the loss, a scalar; the parameters are initializers. Not changed.
        parameters: their names.
        objective: of this the gates count.
        rules: of the gradient.

    Raises:
        UntrainableError: a node has no gradient.
    """
    model = forward.clone()
    # What was rewritten since the last time has no shapes; rules ask for them.
    InferShapes()(model)
    values = feed(model.graph, parameters)
    loss = model.graph.outputs[0]
    named = {str(v.name): v for node in model.graph for v in node.outputs if v.name in objective.gates}
    gates = {named[name]: gate for name, gate in objective.gates.items()}
    gradients = differentiate(model, loss, values, gates=gates, rules=rules)
    model.graph.outputs[:] = [loss, *part_losses(model.graph)]
    places = {value: place for place, node in enumerate(model.graph) for value in node.outputs}
    found = sorted(zip(values, gradients), key=lambda each: places.get(each[1], -1), reverse=True)
    return GradientGraph(model, tuple(value for value, _ in found), tuple(gradient for _, gradient in found))


def feed(graph: ir.Graph, parameters: Sequence[str]) -> list[ir.Value]:
    """Makes the parameters inputs of a graph, behind its own; returns them."""
    values = []
    for name in parameters:
        value = graph.initializers.pop(name)
        value.const_value = None
        graph.inputs.append(value)
        values.append(value)
    return values


def starts_of(forward: ir.Model, parameters: Sequence[str]) -> dict[str, ir.TensorProtocol]:
    """Returns the values that the parameters of a forward graph begin with."""
    starts = {}
    for name in parameters:
        tensor = forward.graph.initializers[name].const_value
        assert tensor is not None
        starts[name] = tensor
    return starts


def start_name(parameter: str) -> str:
    """Returns the name of the initializer that ``l2_sp`` pulls a parameter to."""
    return f"{PREFIX}{parameter}.start"


def regularised(
    build: Builder,
    value: ir.Value,
    gradient: ir.Value,
    objective: Objective,
    start: Optional[ir.TensorProtocol],
) -> ir.Value:
    """Adds the regularisers to the gradient of a parameter, and masks it.

    Args:
        build: writes nodes.
        value: the parameter.
        gradient: of the loss by it.
        objective: what is added, and the masks.
        start: what the parameter began with; read where ``l2_sp`` is not 0.
    """
    name = str(value.name)
    if objective.l2 and name in objective.regularised:
        gradient = build("Add", gradient, build("Mul", value, build.scalar(objective.l2, value)))
    if objective.l2_sp:
        assert start is not None
        moved = build("Sub", value, build.initializer(start.numpy(), start_name(name)))
        gradient = build("Add", gradient, build("Mul", moved, build.scalar(objective.l2_sp, value)))
    if name in objective.masks:
        gradient = build("Mul", gradient, build.constant(objective.masks[name]))
    return gradient


def tidy(model: ir.Model) -> None:
    """Takes the last steps on a model made of a gradient graph, in place: standard operators, and only what is read.

    A type without a shape says nothing that a reader of the file would not find himself, and most values have just that.
    """
    expand_fake_quantize(model)
    # The pass asks ONNX about every node, and there is seldom anything for it to do.
    if _may_have_leftovers(model.graph):
        passes.RemoveUnusedNodesPass()(model)
    for node in model.graph:
        for value in node.outputs:
            if value.shape is None and not value.is_graph_output():
                value.type = None


def _may_have_leftovers(graph: ir.Graph) -> bool:
    """Whether there is something that nobody reads, an input left out at the end, or a graph inside a node to look into."""
    outputs = set(graph.outputs)
    return any(not value.uses() and value not in outputs for value in graph.initializers.values()) or any(
        (node.inputs and node.inputs[-1] is None)
        or any(not value.uses() and value not in outputs for value in node.outputs)
        or inner_graphs(node)
        for node in graph
    )
