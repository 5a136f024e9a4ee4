"""The outputs that train, each with its loss, and what a step is fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tgdonnx.artifacts.forward import ForwardGraph
from tgdonnx.artifacts.losses import Criterion, add_losses
from tgdonnx.artifacts.manifest import Head, input_specs
from tgdonnx.errors import ArtifactsError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec


def add_heads(
    forward: ForwardGraph, criterion: Criterion, data_range: float, renamed: Mapping[str, str]
) -> tuple[tuple[TensorSpec, ...], tuple[Head, ...]]:
    """Adds the loss, and returns what a step is fed, and the outputs that train.

    The outputs of the graph become the loss, the outputs that train, and, where these are several, the losses of each.
    """
    graph, outputs = forward.model.graph, forward.outputs
    inputs = list(graph.inputs)
    parts = [(output, part.loss) for output, part in zip(outputs, criterion.parts)]
    added, total = add_losses(forward.model, parts, data_range=data_range)
    graph.outputs[:] = [total, *outputs, *(each.value for each in added if len(added) > 1)]
    own = {new: old for old, new in renamed.items()}
    names = [own.get(str(output.name), str(output.name)) for output in outputs]
    specs = [*input_specs(inputs, [own.get(str(value.name), str(value.name)) for value in inputs])]
    heads = []
    for name, output, (_, loss), each in zip(names, outputs, parts, added):
        target = TARGET if len(added) == 1 else name
        classes = None
        if each.class_axis is not None and output.shape is not None and each.class_axis.axis < len(output.shape):
            size = output.shape[each.class_axis.axis]
            classes = size if isinstance(size, int) else None
        own_name = None if target == name else name
        specs.append(
            replace(TensorSpec.of(each.target), name=target, role="target", classes=classes, vendor_name=own_name)
        )
        axis = (None, "") if each.class_axis is None else (each.class_axis.axis, each.class_axis.reason)
        heads.append(Head(name, target, str(loss), *axis))
    weights = {name: value for each in added for name, value in each.weights.items()}
    for name, value in weights.items():
        if name in (spec.name for spec in specs):
            raise ArtifactsError(
                f"the loss {criterion} takes weights from the array {name!r}, which is an input or a target already",
                remedy="give the weights another name",
            )
        specs.append(replace(TensorSpec.of(value), name=name, role="weights"))
    return tuple(specs), tuple(heads)
