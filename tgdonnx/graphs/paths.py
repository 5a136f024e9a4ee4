"""Gradient paths: the nodes that a gradient passes on its way back, and through which of the values that they read.

What a node computes conditions, places and sizes from is not on a path, however much it depends on the parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Optional, Union

import onnx_ir as ir

from tgdonnx.graphs.captured import captured_values
from tgdonnx.graphs.operators import rounds, value_inputs, value_outputs

Source = Union[int, ir.Value]
"""What a node reads: the place of an input, or a value from outside that a graph inside the node reads."""


def gradient_path(graph: ir.Graph, trained: Collection[str], *, through_casts: bool = True) -> list[ir.Node]:
    """Returns the nodes between parameters and the outputs of a graph that a gradient passes, in the order of the graph.

    Args:
        graph: sorted topologically.
        trained: the names of the parameters, which are initializers.
        through_casts: whether casts to whole numbers are among them, though their derivative is zero: a runtime that hands the
            gradient straight through would train as if nothing had been rounded, so they have to be looked at.
    """
    parameters = [graph.initializers[name] for name in trained]
    return list(path_between(graph, graph.outputs, parameters, through_casts=through_casts))


def path_between(
    nodes: Iterable[ir.Node], ends: Iterable[ir.Value], wanted: Iterable[ir.Value], *, through_casts: bool = False
) -> dict[ir.Node, tuple[Source, ...]]:
    """Returns the nodes between wanted values and ends, in their order, with the sources through which a gradient passes each.

    Args:
        nodes: of one graph, in topological order.
        ends: where gradients come from.
        wanted: where they go to.
        through_casts: whether a cast to whole numbers counts as if it did not round.
    """
    _, carried = _forward(nodes, wanted, through_casts=through_casts)
    needed: set[Optional[ir.Value]] = set(ends)
    path: dict[ir.Node, tuple[Source, ...]] = {}
    for node in reversed(carried):
        if any(node.outputs[place] in needed for place in value_outputs(node)):
            path[node] = carried[node]
            needed.update(source_value(node, source) for source in carried[node])
    return dict(reversed(path.items()))


def depending(graph: ir.Graph, values: Iterable[ir.Value]) -> set[ir.Value]:
    """Returns the values that a small change of some values would change, those themselves included."""
    return _forward(graph, values, through_casts=True)[0]


def source_value(node: ir.Node, source: Source) -> Optional[ir.Value]:
    """Returns the value that a source is."""
    return node.inputs[source] if isinstance(source, int) else source


def carrying(node: ir.Node) -> tuple[Source, ...]:
    """Returns the sources of a node through which a gradient passes, whether or not anybody has a rule for it."""
    return (*value_inputs(node), *captured_values(node))


def _forward(
    nodes: Iterable[ir.Node], values: Iterable[ir.Value], *, through_casts: bool
) -> tuple[set[ir.Value], dict[ir.Node, tuple[Source, ...]]]:
    """Returns the values that depend on some, and the nodes on the way with the sources that do."""
    moving = set(values)
    carried: dict[ir.Node, tuple[Source, ...]] = {}
    for node in nodes:
        if not through_casts and rounds(node):
            continue
        sources = tuple(source for source in carrying(node) if source_value(node, source) in moving)
        if sources:
            carried[node] = sources
            moving.update(node.outputs[place] for place in value_outputs(node))
    return moving, carried
