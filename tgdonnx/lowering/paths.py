"""Gradient paths: the nodes that a gradient passes on its way from the loss to the parameters that train.

Only these need a gradient, and only these are lowered. What a node computes conditions, indices and shapes from is not on a
path, however much it depends on the parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from tgdonnx.layers.sizes import inner_graphs

# Their outputs are conditions, indices or shapes: no gradient passes.
_ENDS = frozenset(
    [
        "And",
        "ArgMax",
        "ArgMin",
        "Ceil",
        "ConstantOfShape",
        "Equal",
        "EyeLike",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "NonZero",
        "Not",
        "Or",
        "Range",
        "Round",
        "Shape",
        "Sign",
        "Size",
        "Xor",
    ]
)

# Of these only some inputs carry a gradient; the others are indices, sizes or conditions.
_CARRYING = {
    **dict.fromkeys(("Expand", "Gather", "GatherElements", "GatherND", "Pad", "Reshape", "Slice", "Split"), (0,)),
    **dict.fromkeys(("Resize", "Squeeze", "Tile", "TopK", "Unsqueeze", "Upsample", "OneHot"), (0,)),
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare"), (0,)
    ),
    **dict.fromkeys(("Clip", "Dropout", "ReduceLogSumExp", "Trilu"), (0,)),
    **dict.fromkeys(("ScatterElements", "ScatterND"), (0, 2)),
    "Where": (1, 2),
}


def gradient_path(graph: ir.Graph, trained: Collection[str]) -> list[ir.Node]:
    """Returns the nodes between parameters and the outputs of a graph that a gradient passes, in the order of the graph.

    Args:
        graph: sorted topologically.
        trained: the names of the parameters, which are initializers.
    """
    moving = depending(graph, [graph.initializers[name] for name in trained])
    wanted = set(graph.outputs)
    path = []
    for node in reversed(graph):
        if any(value in wanted and value in moving for value in node.outputs):
            path.append(node)
            wanted.update(value for value in _carrying(node) if value in moving)
    return path[::-1]


def depending(graph: ir.Graph, values: Iterable[ir.Value]) -> set[ir.Value]:
    """Returns the values that a small change of some values would change, those themselves included."""
    moving = set(values)
    for node in graph:
        if any(value in moving for value in _carrying(node)):
            moving.update(node.outputs)
    return moving


def _carrying(node: ir.Node) -> list[ir.Value]:
    """Returns the values that a gradient leaves a node by: its inputs, and what the graphs inside it read from outside."""
    if node.domain in ("", "ai.onnx"):
        if node.op_type in _ENDS:
            return []
        positions = _CARRYING.get(node.op_type)
        if positions is not None:
            return [v for v in (node.inputs[i] for i in positions if i < len(node.inputs)) if v is not None]
    read = [*node.inputs, *(value for graph in inner_graphs(node) for value in _captured(graph))]
    return [value for value in read if value is not None]


def _captured(graph: ir.Graph) -> set[ir.Value]:
    """Returns the values that a graph inside a node reads or gives, those made outside it among them."""
    return {value for node in graph.all_nodes() for value in node.inputs if value is not None} | set(graph.outputs)
