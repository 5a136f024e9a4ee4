"""Tensors whose values are known before the model runs, though nodes compute them.

Exporters write the pads of a Pad, say, as a Concat of Casts of constants. Those nodes are run here, by the reference
implementation of ONNX. The shape of a tensor of known size counts as known.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

_MAX_NODES = 200


def known_array(value: ir.Value) -> Optional[NDArray[Any]]:
    """Returns the value of a tensor, or None when it depends on an input of the model."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return np.asarray(tensor.numpy())
    leaves: dict[str, NDArray[Any]] = {}
    nodes: dict[ir.Node, None] = {}
    if not _collect(value, leaves, nodes, set()):
        return None
    if str(value.name) in leaves:
        return leaves[str(value.name)]
    # Imported late: it takes longer than all of tgdonnx.
    from onnx.reference import ReferenceEvaluator

    graph = next(iter(nodes)).graph
    assert graph is not None
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [ir.to_proto(node) for node in nodes],
            "known",
            [],
            [onnx.helper.make_empty_tensor_value_info(str(value.name))],
            [onnx.numpy_helper.from_array(array, name) for name, array in leaves.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", graph.opset_imports.get("", 1))],
    )
    results = ReferenceEvaluator(model).run(None, {})
    assert isinstance(results, list)
    return np.asarray(results[0])


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
    if node is None or node.domain not in ("", "ai.onnx"):
        return False
    if node in nodes:
        return True
    if node.op_type == "Shape" and not node.attributes:
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            return False
        leaves[str(value.name)] = np.array(list(shape), np.int64)
        return True
    if node.op_type.startswith("Random") or any(a.type == ir.AttributeType.GRAPH for a in node.attributes.values()):
        return False
    visited.add(node)
    if len(visited) > _MAX_NODES:
        return False
    if not all(_collect(each, leaves, nodes, visited) for each in node.inputs if each is not None):
        return False
    nodes[node] = None
    return True
