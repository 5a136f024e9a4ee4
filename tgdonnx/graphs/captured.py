"""Graphs inside nodes (branches of If, bodies of Loop and Scan), and the values that they take from outside."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def inner_graphs(node: ir.Node) -> list[ir.Graph]:
    """Returns the graphs directly inside a node: branches, or a body."""
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs.extend(attribute.as_graphs())
    return graphs


def captured_values(node: ir.Node) -> tuple[ir.Value, ...]:
    """Returns the values from outside that the graphs inside a node read or give out, however deep, in the order of reading."""
    read: dict[ir.Value, None] = {}
    made: set[ir.Value] = set()
    for graph in graphs_within(node):
        made.update(graph.inputs)
        made.update(graph.initializers.values())
        for inner in graph:
            made.update(inner.outputs)
            read.update((value, None) for value in inner.inputs if value is not None)
        read.update(dict.fromkeys(graph.outputs))
    return tuple(value for value in read if value not in made)


def graphs_within(node: ir.Node) -> Iterator[ir.Graph]:
    """Yields the graphs inside a node, however deep."""
    pending = inner_graphs(node)[::-1]
    while pending:
        graph = pending.pop()
        yield graph
        for inner in graph:
            pending += inner_graphs(inner)[::-1]
