"""What is computed before anything that trains, by nodes with graphs inside, or recurrent: kept from the gradient builder.

onnxruntime-training 1.19.2 ends the process (an assertion in C++) where it follows a node back into the values that its
branches or body read from the graph around them. So these nodes, and all that they are computed from, are taken out, their
results become inputs, and when the backward pass is there they are put back in front. No gradient passes them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import onnx

from tgdonnx.errors import UntrainableError

# The builder makes of them forms of its own for training, which it lacks for some attributes: an LSTM of both directions
# could be built, but not loaded.
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_WHO = "a recurrent node, or one with branches or a body,"


@dataclass(frozen=True)
class Beforehand:
    """What was taken out of a graph.

    Attributes:
        nodes: sorted topologically.
        initializers: those that the nodes read.
        results: the values that the rest of the graph reads, which became its last inputs.
        inputs: those of the graph before.
    """

    nodes: tuple[onnx.NodeProto, ...] = field(repr=False)
    initializers: tuple[onnx.TensorProto, ...] = field(repr=False)
    results: tuple[str, ...]
    inputs: tuple[onnx.ValueInfoProto, ...] = field(repr=False)


def take_out(model: onnx.ModelProto, parameters: Collection[str]) -> Beforehand:
    """Takes the nodes with graphs inside, and what they are computed from, out of ``model``, in place.

    Raises:
        UntrainableError: one is computed from a parameter.
    """
    graph = model.graph
    chosen: set[int] = set()
    needed: set[str] = set()
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        inside = node.op_type in _RECURRENT or any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)
        if inside or any(name in needed for name in node.output):
            chosen.add(index)
            needed |= _read(node)
            if not needed.isdisjoint(parameters):
                name = node.name or node.output[0]
                raise UntrainableError(
                    f"node {name!r} ({node.op_type}) is computed from filters that would retrain, and {_WHO} reads it",
                    remedy="choose filters behind that, for example with `last`",
                    node=name,
                    op_type=node.op_type,
                )
    nodes = tuple(graph.node[index] for index in sorted(chosen))
    rest = [node for index, node in enumerate(graph.node) if index not in chosen]
    made = {name for node in nodes for name in node.output if name}
    read = {name for node in rest for name in node.input} | {value.name for value in graph.output}
    types = {value.name: value.type for value in graph.value_info}
    inputs = tuple(graph.input)
    results = tuple(sorted(made & read))
    initializers = tuple(tensor for tensor in graph.initializer if tensor.name in needed)
    for name in results:
        if not types.get(name, onnx.TypeProto()).tensor_type.elem_type:
            raise UntrainableError(
                f"the type of {name!r} is not known", remedy="declare the shapes of the inputs of the model"
            )
        graph.input.append(onnx.ValueInfoProto(name=name, type=types[name]))
    taken = Beforehand(tuple(map(_copy, nodes)), initializers, results, inputs)
    if nodes:
        rest = [_copy(node) for node in rest]
        del graph.node[:]
        graph.node.extend(rest)
    return taken


def put_back(model: onnx.ModelProto, taken: Beforehand) -> None:
    """Puts what was taken out in front of the nodes of ``model``, in place."""
    if not taken.nodes:
        return
    graph = model.graph
    rest = [_copy(node) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*taken.nodes, *rest])
    stored = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in taken.initializers if tensor.name not in stored)
    del graph.input[:]
    graph.input.extend(taken.inputs)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _read(node: onnx.NodeProto) -> set[str]:
    """Returns the names that a node reads, those in its branches included, whoever makes them."""
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            names.update(name for inner in attribute.g.node for name in _read(inner))
            names.update(value.name for value in attribute.g.output)
    return names
