"""Small words for passes that put new nodes in front of an old one.

Whatever they add is called ``tgdonnx::...``, so that it cannot meet a name of the vendor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import UntrainableError

PREFIX = "tgdonnx::"
AttributeValue = Union[int, float, str, Sequence[int], Sequence[float]]


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic], *, names: ir.Graph | None = None) -> ir.Value:
    """Adds an initializer to the graph, called ``PREFIX + name``, and returns its value.

    Args:
        graph: the graph.
        name: of the initializer; it gets a number if it is taken.
        array: the numbers.
        names: the graph that knows which names are taken, if not this one.
    """
    name = fresh_name(graph if names is None else names, name)
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def fresh_name(graph: ir.Graph, name: str) -> str:
    """Returns ``PREFIX + name``, with a number if it is taken: what one pass wrote, the next may replace.

    A vendor's file has such names where it was made of one of our graphs.
    """
    name = name[len(PREFIX) :] if name.startswith(PREFIX) else name
    if PREFIX not in graph.meta:
        graph.meta[PREFIX] = ({}, _names_like_ours(graph))
    count, found = graph.meta[PREFIX]
    while True:
        count[name] = count.get(name, 0) + 1
        fresh = f"{PREFIX}{name}" if count[name] == 1 else f"{PREFIX}{name}#{count[name]}"
        if fresh not in found:
            return fresh


def _names_like_ours(graph: ir.Graph) -> frozenset[str]:
    """Returns the names in a graph and its subgraphs that begin like ours."""
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph.all_nodes() for v in node.outputs)]
    return frozenset(value.name for value in values if value.name is not None and value.name.startswith(PREFIX))


def before(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    name: str,
    attributes: dict[str, AttributeValue] | None = None,
    *,
    domain: str = "",
    outputs: int = 1,
) -> ir.Value:
    """Inserts a node in front of ``node`` and returns its first output, which is called ``PREFIX + name``."""
    new = ir.node(op_type, inputs, attributes or {}, domain=domain, num_outputs=outputs)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for index, value in enumerate(new.outputs):
        value.name = fresh_name(graph, f"{name}.{index}" if index else name)
    graph.insert_before(node, new)
    return new.outputs[0]


def refusal(node: ir.Node, reason: str, remedy: str) -> UntrainableError:
    """Returns the error that says why a node stands in the way of training, and what would help."""
    name = str(node.meta.get("name") or node.name or node.outputs[0].name)
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return UntrainableError(f"node {name!r} ({operator}) {reason}", remedy=remedy, node=name, op_type=node.op_type)


def replace(node: ir.Node, output: ir.Value) -> None:
    """Lets ``output`` take the place, and the name, of the first output of ``node``, and removes the node."""
    graph, old = node.graph, node.outputs[0]
    assert graph is not None
    output.shape, output.type = old.shape, old.type
    name = old.name
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    output.name = name
