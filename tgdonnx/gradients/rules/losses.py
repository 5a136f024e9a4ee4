"""The losses that ONNX has as operators."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule


@rule("SoftmaxCrossEntropyLoss", carries=(0,))
def _softmax_cross_entropy(step: Step) -> Mapping[int, Gradient]:
    """(softmax - one-hot) times the weight of each place."""
    build = step.build
    if len(step.node.outputs) > 1 and step.node.outputs[1].name:
        log_probability = step.node.outputs[1]
    else:
        log_probability = build("LogSoftmax", step.x, axis=1)
    one_hot = _one_hot(step)
    difference = build("Sub", build("Exp", log_probability), one_hot)
    return {0: build("Mul", difference, build("Unsqueeze", _place_weights(step), build.ints(1)))}


@rule("NegativeLogLikelihoodLoss", carries=(0,))
def _negative_log_likelihood(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    weights = build("Unsqueeze", _place_weights(step), build.ints(1))
    return {0: build("Neg", build("Mul", _one_hot(step), weights))}


def _one_hot(step: Step) -> ir.Value:
    """Returns the classes as the probabilities that they would be; an ignored one is none or any."""
    build, labels = step.build, step.input(1)
    classes = build("Shape", step.x, start=1, end=2)
    values = build("Concat", *(build("Reshape", build.scalar(n, step.x), build.ints(1)) for n in (0, 1)), axis=0)
    return build("OneHot", labels, classes, values, axis=1)


def _place_weights(step: Step) -> ir.Value:
    """Returns by how much the loss of each place moves the loss, times the gradient of the loss: of the shape of the labels."""
    build, labels, dy = step.build, step.input(1), step.dy
    weights = step.optional(2)
    place: ir.Value
    if weights is None:
        place = build("Expand", build.scalar(1, step.x), build("Shape", labels))
    else:
        classes = build("Shape", weights)
        inside = build("Mod", build("Add", labels, build.cast(classes, labels)), build.cast(classes, labels))
        place = build("Gather", weights, inside, axis=0)
    if "ignore_index" in step.node.attributes:
        ignored = step.node.attributes["ignore_index"].as_int()
        number = build.cast(build.ints(ignored), labels)
        place = build("Mul", place, build.cast(build("Not", build("Equal", labels, number)), step.x))
    reduction = step.node.attributes.get_string("reduction", "mean") or "mean"
    if reduction == "mean":
        dy = build("Div", dy, build("ReduceSum", place, keepdims=0))
    return build("Mul", place, dy)
