"""The error of a node that stands in the way of training."""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.errors import UntrainableError
from tgdonnx.graphs.nodes import name_of


def refusal(node: ir.Node, reason: str, remedy: str) -> UntrainableError:
    """Returns the error that says why a node stands in the way of training, and what would help."""
    name, operator = name_of(node), f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return UntrainableError(f"node {name!r} ({operator}) {reason}", remedy=remedy, node=name, op_type=node.op_type)
