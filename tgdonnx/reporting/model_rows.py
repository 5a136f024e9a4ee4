"""The graph of a model as rows to read: inputs, layers, joins and outputs, with what follows them in a line folded in.

A row is a node with what reads it alone, up to the next layer or join. Constants, and sizes that are computed, are no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from tgdonnx.graphs.captured import captured_values
from tgdonnx.graphs.operators import is_standard
from tgdonnx.layers import Layer


@dataclass
class Row:
    """A row.

    Attributes:
        name: of the node or value.
        op_type: the operator; ``input`` or ``output`` of a value of the graph.
        layer: the place among the layers, or -1.
        value: what it gives, behind all that is folded in.
        sources: the rows that it reads, in order, each once.
        folded: the operators behind it, in order.
    """

    name: str
    op_type: str
    layer: int
    value: ir.Value
    sources: tuple[int, ...]
    folded: list[str] = field(default_factory=list)


def rows_of(graph: ir.Graph, layers: tuple[Layer, ...]) -> list[Row]:
    """Returns the rows of a graph that is sorted topologically.

    Args:
        graph: the main graph; what branches and bodies inside a node read counts as read by the node.
        layers: those in it.
    """
    stored = set(graph.initializers.values())
    indices = {layer.node: layer for layer in layers}
    rows: list[Row] = []
    place: dict[ir.Value, int] = {}
    for value in graph.inputs:
        if value not in stored:
            place[value] = len(rows)
            rows.append(Row(str(value.name), "input", -1, value, ()))
    readers = _readers(graph)
    for node in graph:
        read = [value for value in _read(node) if value in place]
        if not read or _is_size(node):
            continue
        layer = indices.get(node)
        if layer is None and len(read) == 1 and _is_end(read[0], rows[place[read[0]]], readers, graph):
            index = place[read[0]]
            rows[index].folded.append(node.op_type)
            rows[index].value = node.outputs[0]
        else:
            index = len(rows)
            name = layer.name if layer is not None else str(node.meta.get("name") or node.name or node.outputs[0].name)
            sources = tuple(dict.fromkeys(place[value] for value in read))
            rows.append(Row(name, node.op_type, -1 if layer is None else layer.index, node.outputs[0], sources))
        place.update(dict.fromkeys(node.outputs, index))
    for value in graph.outputs:
        if value in place:
            rows.append(Row(str(value.name), "output", -1, value, (place[value],)))
    return rows


def _is_size(node: ir.Node) -> bool:
    return is_standard(node, "Shape") or is_standard(node, "Size")


def _read(node: ir.Node) -> Iterator[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    yield from captured_values(node)


def _readers(graph: ir.Graph) -> dict[ir.Value, int]:
    """Returns for every value how many nodes read it, sizes aside."""
    counts: dict[ir.Value, int] = {}
    for node in graph:
        for value in set(() if _is_size(node) else _read(node)):
            counts[value] = counts.get(value, 0) + 1
    return counts


def _is_end(value: ir.Value, row: Row, readers: dict[ir.Value, int], graph: ir.Graph) -> bool:
    """Whether a value is the end of a row that only one node goes on from."""
    return value is row.value and row.op_type != "input" and readers.get(value) == 1 and value not in graph.outputs
