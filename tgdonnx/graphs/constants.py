"""Tensors whose values are known before the model runs, though nodes compute them.

Exporters write the pads of a Pad, say, as a Concat of Casts of constants. Those nodes are run here, by the reference
implementation of ONNX, one by one, as far as what they make is no larger than what they read, or than
`bounds.KNOWN_ELEMENTS`. The shape of a tensor of known size counts as known.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx import bounds
from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.graphs.evaluation import evaluate, shape_content
from tgdonnx.graphs.operators import is_standard, opset_of

_MAX_NODES = 200


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
    graph = next(iter(nodes)).graph
    assert graph is not None
    opsets = {"": opset_of(graph)}
    # The leaves are stored: their sizes are those of the file. What is computed from them is bounded.
    for node in nodes:
        inputs = {str(each.name): leaves[str(each.name)] for each in node.inputs if each is not None}
        most = max([bounds.KNOWN_ELEMENTS, *(array.size for array in inputs.values())])
        results = evaluate(node, inputs, opsets, most)
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
    visited.add(node)
    if len(visited) > _MAX_NODES:
        return False
    if not all(_collect(each, leaves, nodes, visited) for each in node.inputs if each is not None):
        return False
    nodes[node] = None
    return True
