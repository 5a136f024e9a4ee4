"""Gradient paths: the nodes that a gradient passes on its way back, and through which of the values that they read.

What a node computes conditions, places and sizes from is not on a path, however much it depends on the parameters; and a path
ends at casts to whole numbers, whose derivative is zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Optional, Union

import onnx_ir as ir

from tgdonnx.graphs.captured import captured_values
from tgdonnx.graphs.operators import rounds, value_inputs, value_outputs

Source = Union[int, ir.Value]
"""What a node reads: the place of an input, or a value from outside that a graph inside the node reads."""


def gradient_path(graph: ir.Graph, trained: Collection[str]) -> list[ir.Node]:
    """Returns the nodes between parameters and the outputs of a graph that a gradient passes, in the order of the graph.

    Args:
        graph: sorted topologically.
        trained: the names of the parameters, which are initializers.
    """
    return list(path_between(graph, graph.outputs, [graph.initializers[name] for name in trained]))


def path_between(
    nodes: Iterable[ir.Node], ends: Iterable[ir.Value], wanted: Iterable[ir.Value]
) -> dict[ir.Node, tuple[Source, ...]]:
    """Returns the nodes between wanted values and ends, in their order, with the sources through which a gradient passes each.

    Args:
        nodes: of one graph, in topological order.
        ends: where gradients come from.
        wanted: where they go to.
    """
    moving = set(wanted)
    carried: dict[ir.Node, tuple[Source, ...]] = {}
    for node in nodes:
        if rounds(node):
            continue
        sources = tuple(source for source in carrying(node) if source_value(node, source) in moving)
        if sources:
            carried[node] = sources
            moving.update(node.outputs[place] for place in value_outputs(node))
    needed: set[Optional[ir.Value]] = set(ends)
    path: dict[ir.Node, tuple[Source, ...]] = {}
    for node in reversed(carried):
        if any(node.outputs[place] in needed for place in value_outputs(node)):
            path[node] = carried[node]
            needed.update(source_value(node, source) for source in carried[node])
    return dict(reversed(path.items()))


def source_value(node: ir.Node, source: Source) -> Optional[ir.Value]:
    """Returns the value that a source is."""
    return node.inputs[source] if isinstance(source, int) else source


def carrying(node: ir.Node) -> tuple[Source, ...]:
    """Returns the sources of a node through which a gradient passes, whether or not anybody has a rule for it."""
    return (*value_inputs(node), *captured_values(node))
