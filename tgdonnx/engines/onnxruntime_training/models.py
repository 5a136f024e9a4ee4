"""The training and the eval model, from a forward graph with its loss.

    training_model   data, targets, parameters, buffers, lazy_reset_grad  ->  loss, and that each buffer is written
    eval_model       data, targets, parameters                            ->  loss, outputs

Gradients are our own (`tgdonnx.engines.gradient_graph`). Behind that of each parameter stands a node of the runtime,
InPlaceAccumulatorV2, which adds it to a buffer, or writes it there where ``lazy_reset_grad`` is true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tgdonnx.engines.gradient_graph import GradientGraph, feed, gradient_graph, regularised, starts_of, tidy
from tgdonnx.engines.onnxruntime_training.convolution import RULES
from tgdonnx.engines.protocol import Objective
from tgdonnx.graphs.builder import Builder

_RESET = "lazy_reset_grad"
_DOMAIN = "com.microsoft"


def training_model(forward: ir.Model, parameters: Sequence[str], objective: Objective) -> ir.Model:
    """Returns the model that computes the loss and accumulates the gradients.

    Args:
        forward: as of `Problem.model`; not changed.
        parameters: their names.
        objective: what is added to the gradients, and what is masked.

    Raises:
        UntrainableError: a node has no gradient.
    """
    made = gradient_graph(forward, parameters, objective, RULES)
    _accumulate(made, objective, starts_of(forward, parameters))
    tidy(made.model)
    return made.model


def eval_model(forward: ir.Model, parameters: Sequence[str]) -> ir.Model:
    """Returns the model that computes loss and outputs; see `training_model`."""
    model = forward.clone()
    feed(model.graph, parameters)
    tidy(model)
    return model


def _accumulate(made: GradientGraph, objective: Objective, starts: Mapping[str, ir.TensorProtocol]) -> None:
    """Adds the accumulators, and what the runtime wants of a training model: it finds the buffers by their names."""
    graph = made.model.graph
    reset = ir.Value(name=_RESET, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.BOOL))
    trained = set(made.parameters)
    parameters = [value for value in graph.inputs if value in trained]
    buffers = {
        value: ir.Value(name=f"{value.name}_grad.accumulation.buffer", shape=value.shape, type=value.type)
        for value in parameters
    }
    done: dict[ir.Value, ir.Value] = {}
    build = Builder(graph, "")
    for value, gradient in zip(made.parameters, made.gradients):
        name = str(value.name)
        build.about(name)
        ready = regularised(build, value, gradient, objective, starts[name])
        (written,) = build.several("InPlaceAccumulatorV2", [buffers[value], ready, reset], {}, domain=_DOMAIN)
        written.name = f"{name}_grad.accumulation.out"
        written.shape, written.type = ir.Shape([1]), ir.TensorType(ir.DataType.BOOL)
        done[value] = written
    graph.extend(build.nodes)
    graph.inputs.extend([*buffers.values(), reset])
    graph.outputs.extend(done[value] for value in parameters)
