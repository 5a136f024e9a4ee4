"""Writes the nodes of a loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.lowering.rewriting import PREFIX, AttributeValue, constant

LOSS = "loss"


class Pen:
    """Collects nodes, and names what they give.

    Attributes:
        nodes: written so far, in order.

    Args:
        graph: what they are for; it gets the constants.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self.nodes: list[ir.Node] = []

    def __call__(self, op_type: str, *inputs: ir.Value, outputs: int = 1, **attributes: AttributeValue) -> ir.Value:
        """Writes a node and returns its first output."""
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs)
        self.nodes.append(node)
        for index, value in enumerate(node.outputs):
            value.name = f"{PREFIX}{LOSS}.{len(self.nodes)}.{index}"
        return node.outputs[0]

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """Writes an initializer; in old operator sets the node Constant holds floats only."""
        return constant(self._graph, f"{LOSS}.constant", array)

    def scalar(self, value: float) -> ir.Value:
        """Writes a float32 number."""
        return self.constant(np.array(value, np.float32))
