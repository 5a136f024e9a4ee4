"""Tensors whose values are known before the model runs, though nodes compute them.

Exporters write the pads of a Pad, say, as a Concat of Casts of constants. Those nodes are run here, by the reference
implementation of ONNX, one by one, as far as what they make is no larger than what they read, or than
`bounds.KNOWN_ELEMENTS`. The shape of a tensor of known size counts as known, and so do the known sizes that Gather or
Slice takes out of the shape of a tensor whose other sizes, such as the number of samples, are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx import bounds
from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.graphs.evaluation import evaluate, shape_content
from tgdonnx.graphs.nodes import optional_input
from tgdonnx.graphs.operators import is_standard, opset_of

_MAX_NODES = 200
_OPEN = -1  # stands for an open size: no size is negative
_TAKING = frozenset({"Gather", "Slice"})


def known_array(value: ir.Value) -> Optional[NDArray[Any]]:
    """Returns the value of a tensor, or None when it depends on an input of the model, or is too large to be computed."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return np.asarray(tensor.numpy())
    leaves: dict[str, NDArray[Any]] = {}
    nodes: dict[ir.Node, None] = {}
    if not _collect(value, leaves, nodes, set()):
        return None
    if str(value.name) in leaves:
        return leaves[str(value.name)]
    for node in nodes:
        results = _computed(node, {str(each.name): leaves[str(each.name)] for each in node.inputs if each is not None})
        if results is None:
            return None
        leaves.update(zip((str(each.name) for each in node.outputs if each.name), results))
    return leaves[str(value.name)]


def _collect(
    value: ir.Value, leaves: dict[str, NDArray[Any]], nodes: dict[ir.Node, None], visited: set[ir.Node]
) -> bool:
    """Gathers, in the order of computation, what makes ``value``; False if an input of the model does, or too much.

    ``visited`` has all nodes that were looked at. They are counted on the way up already: what a deep network computes may
    have thousands behind it, too many to look at for every question and to recurse into.
    """
    if value.name in leaves:
        return True
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        leaves[str(value.name)] = np.asarray(tensor.numpy())
        return True
    node = value.producer()
    if node is None or not is_standard(node):
        return False
    if node in nodes:
        return True
    if node.op_type == "Shape":
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        content = None if shape is None else shape_content(node, shape)
        if content is not None:
            leaves[str(value.name)] = content
        return content is not None
    if inner_graphs(node):
        return False
    taken = _sizes_taken(node)
    if taken is not None:
        leaves[str(value.name)] = taken
        return True
    visited.add(node)
    if len(visited) > _MAX_NODES:
        return False
    if not all(_collect(each, leaves, nodes, visited) for each in node.inputs if each is not None):
        return False
    nodes[node] = None
    return True


def _sizes_taken(node: ir.Node) -> Optional[NDArray[Any]]:
    """Returns what Gather or Slice takes out of a shape of which some size is open; None if that, or if it is no such node.

    Both only move what they read, so the stand-in for an open size is in what they give if they take one, and only then.
    """
    source = optional_input(node, 0)
    maker = None if source is None else source.producer()
    if source is None or maker is None or not is_standard(node, _TAKING) or not is_standard(maker, "Shape"):
        return None
    shape = None if maker.inputs[0] is None else maker.inputs[0].shape
    given = {str(each.name): known_array(each) for each in node.inputs[1:] if each is not None}
    places = {name: array for name, array in given.items() if array is not None}
    if shape is None or len(places) < len(given):
        return None
    sizes = shape_content(maker, [size if isinstance(size, int) else _OPEN for size in shape])
    results = None if sizes is None else _computed(node, {str(source.name): sizes, **places})
    return None if results is None or (results[0] == _OPEN).any() else results[0]


def _computed(node: ir.Node, inputs: Mapping[str, NDArray[Any]]) -> Optional[list[NDArray[Any]]]:
    """Computes a node. What is stored has the size that it has in the file; what is computed from it is bounded."""
    assert node.graph is not None
    most = max([bounds.KNOWN_ELEMENTS, *(array.size for array in inputs.values())])
    return evaluate(node, inputs, {"": opset_of(node.graph)}, most)
