"""How large the values of a graph would be, looked at before anybody makes one of them.

What stored tensors alone determine is made while a model is opened, by runtimes too, which fold it into the graph; the rest
when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from tgdonnx import bounds
from tgdonnx.errors import ModelFileError
from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.graphs.evaluation import elements
from tgdonnx.layers.sizes import Sizes


def require_extents(graph: ir.Graph, sizes: Sizes, name_of: Callable[[ir.Node], str], path: Path) -> None:
    """Checks that no value has more elements than `tgdonnx.bounds` says.

    Args:
        graph: sorted topologically.
        sizes: of its values; of those that are unknown nothing is checked.
        name_of: gives the name of a node.
        path: of the file, for messages.

    Raises:
        ModelFileError: one has.
    """
    read = [value for value in graph.inputs if value.name not in graph.initializers]
    largest = max((elements(sizes.shapes[value]) for value in read if value in sizes.shapes), default=1)
    most = max(bounds.ACTIVATION_ELEMENTS, largest * bounds.ACTIVATION_GROWTH)
    stored: set[ir.Value] = set()
    _check(graph, sizes, stored, most, name_of, path)


def _check(
    graph: ir.Graph, sizes: Sizes, stored: set[ir.Value], most: int, name_of: Callable[[ir.Node], str], path: Path
) -> None:
    stored.update(graph.initializers.values())
    for node in graph:
        subgraphs = inner_graphs(node)
        for subgraph in subgraphs:
            _check(subgraph, sizes, stored, most, name_of, path)
        inputs = [value for value in node.inputs if value is not None]
        computed = bool(subgraphs) or any(value not in stored for value in inputs)
        if not computed:
            stored.update(node.outputs)
        bound = most
        if not computed and node.op_type != "Constant":
            given = (elements(sizes.shapes[value]) for value in inputs if value in sizes.shapes)
            bound = max([bounds.CONSTANT_ELEMENTS, *given])
        for value in node.outputs:
            count = elements(sizes.shapes.get(value, ()))
            if count > bound:
                what = "a value" if computed else "of stored tensors alone a value"
                remedy = "get a model of smaller values" if computed else "store it in the file, or get a smaller model"
                raise ModelFileError(
                    f"node {name_of(node)!r} ({node.op_type}) of {path} makes {what} of {_number(count)} elements; "
                    f"expected at most {bound:,}",
                    remedy=remedy,
                    node=name_of(node),
                    op_type=node.op_type,
                )


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"about 10^{len(str(count)) - 1}"
