"""Gradient paths: which nodes a gradient passes, and through which of the values that they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional, Union

import onnx_ir as ir

from tgdonnx.gradients.rule import entry_of

Source = Union[int, ir.Value]
"""What a node reads: the place of an input, or a value from outside that a graph inside the node reads."""

ENDS = frozenset(
    [
        *("And", "ArgMax", "ArgMin", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Constant"),
        *("ConstantOfShape", "Equal", "EyeLike", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN"),
        *("Less", "LessOrEqual", "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "RandomNormal"),
        *("RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "Round", "Shape", "Sign", "Size", "Xor"),
    ]
)
"""Operators whose outputs a small change of their inputs does not change, or which count as constants: no gradient passes."""


def path_between(
    nodes: Sequence[ir.Node], ends: Iterable[ir.Value], wanted: Iterable[ir.Value]
) -> dict[ir.Node, tuple[Source, ...]]:
    """Returns the nodes between wanted values and ends, with the sources through which a gradient passes each.

    Args:
        nodes: of one graph, in topological order.
        ends: where gradients come from.
        wanted: where they go to.
    """
    moving: set[Optional[ir.Value]] = set(wanted)
    carried: dict[ir.Node, tuple[Source, ...]] = {}
    for node in nodes:
        sources = tuple(source for source in carrying(node) if source_value(node, source) in moving)
        if sources:
            carried[node] = sources
            moving.update(node.outputs)
    needed: set[Optional[ir.Value]] = set(ends)
    path: dict[ir.Node, tuple[Source, ...]] = {}
    for node in reversed(nodes):
        if node in carried and any(value in needed for value in node.outputs):
            path[node] = carried[node]
            needed.update(source_value(node, source) for source in carried[node])
    return path


def source_value(node: ir.Node, source: Source) -> Optional[ir.Value]:
    """Returns the value that a source is."""
    return node.inputs[source] if isinstance(source, int) else source


def carrying(node: ir.Node) -> tuple[Source, ...]:
    """Returns the sources of a node through which a gradient passes, whether or not there is a rule for it."""
    if node.domain in ("", "ai.onnx") and (node.op_type in ENDS or _rounds(node)):
        return ()
    entry = entry_of(node)
    places = [place for place, value in enumerate(node.inputs) if value is not None]
    if entry is not None and entry.carries is not None:
        places = [place for place in entry.carries if place in places]
    return (*places, *dict.fromkeys(_read_inside(node)))


def _rounds(node: ir.Node) -> bool:
    """Whether a node gives whole numbers, so that no gradient passes.

    What QuantizeLinear rounds counts as passed straight through: it is lowered with the DequantizeLinear behind it.
    """
    if node.op_type == "QuantizeLinear":
        return False
    if node.op_type == "Cast":
        return not ir.DataType(node.attributes["to"].as_int()).is_floating_point()
    dtype = node.outputs[0].dtype
    return dtype is not None and not dtype.is_floating_point()


def _read_inside(node: ir.Node) -> Iterator[ir.Value]:
    """Yields what the graphs inside a node read or give out, whoever makes it."""
    for attribute in node.attributes.values():
        graphs: Sequence[ir.Graph] = ()
        if attribute.type == ir.AttributeType.GRAPH:
            graphs = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs = attribute.as_graphs()
        for graph in graphs:
            yield from (value for inner in graph.all_nodes() for value in inner.inputs if value is not None)
            yield from graph.outputs
