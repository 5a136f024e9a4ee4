"""The models of the engine, from a forward graph with its loss.

    step       data, targets, learning_rate, step, state ->  losses, state after it
    gradients  data, targets, parameters, sums           ->  losses, sums with the gradient of the batch added
    update     sums, batches, learning_rate, step, state ->  state after it, moved by the mean gradient of the batches
    eval       data, targets, parameters                 ->  loss, outputs

Losses are the loss, and of several outputs the loss of each. State is the parameters, and what the optimizer remembers of
each. One run of ``step`` is a training step; ``gradients`` and ``update`` divide it where batches are accumulated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from tgdonnx.engines.gradient_graph import feed, gradient_graph, regularised, starts_of, tidy
from tgdonnx.engines.onnxruntime.optimizers import (
    Moments,
    adamw,
    adamw_function,
    clipped,
    corrections,
    moment_count,
    sgd,
)
from tgdonnx.engines.protocol import Objective
from tgdonnx.graphs.builder import PREFIX, Builder

_IR_WITH_FUNCTIONS = 8
AFTER = (
    ".after"  # behind the name of what a step changes; no name of the vendor's ends so, see `tgdonnx.artifacts.names`
)
RATE, STEP, BATCHES = f"{PREFIX}learning_rate", f"{PREFIX}step", f"{PREFIX}batches"


@dataclass(frozen=True)
class Models:
    """The models of an artifacts directory."""

    step: ir.Model
    gradients: ir.Model
    update: ir.Model
    eval: ir.Model


def moment_names(parameter: str, count: int) -> tuple[str, ...]:
    """Returns the names of what is remembered of a parameter."""
    return tuple(f"{PREFIX}{parameter}.moment{place + 1}" for place in range(count))


def sum_name(parameter: str) -> str:
    """Returns the name of the sum of the gradients of a parameter."""
    return f"{PREFIX}{parameter}.sum"


def make_models(forward: ir.Model, parameters: Sequence[str], objective: Objective) -> Models:
    """Returns the models of a forward graph.

    Args:
        forward: as of `Problem.model`; not changed.
        parameters: their names.
        objective: how to minimise.

    Raises:
        UntrainableError: a node has no gradient.
    """
    starts = starts_of(forward, parameters)
    evaluating = forward.clone()
    feed(evaluating.graph, parameters)
    made = gradient_graph(forward, parameters, objective)
    differentiated, values = made.model, made.parameters
    graph = differentiated.graph
    parameters, losses = [str(value.name) for value in values], len(graph.outputs)
    for value, gradient in zip(values, made.gradients):
        gradient.name = gradient_name(str(value.name))
        graph.outputs.append(gradient)
    for model in (differentiated, evaluating):
        tidy(model)
    step, summing = differentiated, _summing(differentiated, values, losses)
    _add_update(step.graph, losses, parameters, objective, starts)
    update = _update_model(differentiated, values, objective, starts)
    if objective.optimizer == "adamw":
        for model in (step, update):
            function = adamw_function(model.graph.opset_imports[""])
            model.functions[function.identifier()] = function
            model.ir_version = max(model.ir_version, _IR_WITH_FUNCTIONS)
    return Models(step, summing, update, evaluating)


def gradient_name(parameter: str) -> str:
    """Returns the name of the gradient of a parameter."""
    return f"{PREFIX}{parameter}.gradient"


def _summing(model: ir.Model, values: Sequence[ir.Value], losses: int) -> ir.Model:
    """Returns a view of a model, whose gradients are its outputs behind the losses, with each added to a sum.

    Nodes are shared, not copied; what is added to the model later is not in the view.
    """
    graph, gradients = model.graph, list(model.graph.outputs)[losses:]
    sums = ir.Graph([], [], nodes=[], opset_imports=dict(graph.opset_imports), name="sums")
    build = Builder(sums, "sums")
    names = [sum_name(str(value.name)) for value in values]
    added = [build("Add", _input(sums, *each), gradient) for each, gradient in zip(zip(names, values), gradients)]
    _give_out(sums, added, values, [f"{name}{AFTER}" for name in names])
    for node in build.nodes:  # both graphs would number theirs from the first
        node.name = node.outputs[0].name
    sums.extend(build.nodes)
    view = ir.GraphView(
        [*graph.inputs, *sums.inputs],
        [*list(graph.outputs)[:losses], *sums.outputs],
        nodes=[*graph, *sums],
        initializers=list(graph.initializers.values()),
        doc_string=graph.doc_string,
        opset_imports=dict(graph.opset_imports),
        name=graph.name,
        metadata_props=dict(graph.metadata_props),
    )
    return ir.Model(
        view,  # type: ignore[arg-type]  # what it is for, says onnx_ir
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        metadata_props=dict(model.metadata_props),
    )


def _add_update(
    graph: ir.Graph,
    losses: int,
    parameters: Sequence[str],
    objective: Objective,
    starts: Mapping[str, ir.TensorProtocol],
) -> None:
    """Adds the optimizer behind the gradients of a graph, which are its outputs behind the losses."""
    inputs = {str(value.name): value for value in graph.inputs}
    gradients = list(graph.outputs)[losses:]
    graph.outputs[losses:] = []
    _optimize(graph, [inputs[name] for name in parameters], gradients, objective, starts)


def _update_model(
    like: ir.Model,
    values: Sequence[ir.Value],
    objective: Objective,
    starts: Mapping[str, ir.TensorProtocol],
) -> ir.Model:
    parameters = [ir.Value(name=value.name, shape=value.shape, type=value.type) for value in values]
    graph = ir.Graph([], [], nodes=[], opset_imports=dict(like.graph.opset_imports), name="update")
    sums = [_input(graph, sum_name(str(value.name)), value) for value in parameters]
    batches = ir.Value(name=BATCHES, shape=ir.Shape([]), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(batches)
    graph.inputs.extend(parameters)
    build = Builder(graph, "mean")
    means = [build("Div", value, batches) for value in sums]
    graph.extend(build.nodes)
    _optimize(graph, parameters, means, objective, starts)
    return ir.Model(graph, ir_version=like.ir_version, producer_name=like.producer_name)


def _optimize(
    graph: ir.Graph,
    parameters: Sequence[ir.Value],
    gradients: Sequence[ir.Value],
    objective: Objective,
    starts: Mapping[str, ir.TensorProtocol],
) -> None:
    """Adds what moves the parameters; the outputs are the state after it, parameter by parameter."""
    build = Builder(graph, "objective")
    count = moment_count(objective.optimizer, objective.momentum)
    rate = ir.Value(name=RATE, shape=ir.Shape([]), type=ir.TensorType(ir.DataType.FLOAT))
    step = ir.Value(name=STEP, shape=ir.Shape([]), type=ir.TensorType(ir.DataType.INT64))
    graph.inputs.extend([rate, step])
    ready = [
        regularised(build, value, gradient, objective, starts[str(value.name)])
        for value, gradient in zip(parameters, gradients)
    ]
    ready = clipped(build, ready, objective.clip_norm)
    factors = corrections(build, rate, step) if objective.optimizer == "adamw" else None
    for value, gradient in zip(parameters, ready):
        name = str(value.name)
        build.about(name)
        names = moment_names(name, count)
        moments = Moments(tuple(_input(graph, each, value) for each in names))
        if factors is not None:
            moved, after = adamw(build, value, gradient, moments, factors)
        else:
            moved, after = sgd(build, value, gradient, moments, rate, objective.momentum)
        results = [moved, *after.values]
        _give_out(graph, results, [value] * len(results), [f"{each}{AFTER}" for each in (name, *names)])
    graph.extend(build.nodes)


def _input(graph: ir.Graph, name: str, like: ir.Value) -> ir.Value:
    value = ir.Value(name=name, shape=like.shape, type=like.type)
    graph.inputs.append(value)
    return value


def _give_out(graph: ir.Graph, results: Sequence[ir.Value], like: Sequence[ir.Value], names: Collection[str]) -> None:
    for result, of, name in zip(results, like, names):
        result.name, result.shape, result.type = name, of.shape, of.type
        graph.outputs.append(result)
