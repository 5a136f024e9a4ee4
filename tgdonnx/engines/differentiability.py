"""Why no gradient passes a node, whatever the engine."""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.graphs.operators import is_integer_arithmetic, is_standard
from tgdonnx.layers import INTEGER_REMEDY


def makes_integers(node: ir.Node) -> bool:
    """Whether a node that has no gradient lacks it because of integer arithmetic, its own or that of its readers."""
    return is_integer_arithmetic(node) or is_standard(node, "QuantizeLinear")


def why_no_gradient(node: ir.Node) -> tuple[str, str]:
    """Says of a node that has no gradient why, and what would help."""
    remedy = "retrain filters behind it only, for example with `last`; if there are none, ask for a model without it"
    if is_standard(node, "If"):
        return "chooses its branch while the model runs", f"{remedy}, or with a constant condition"
    if makes_integers(node):
        remedy = f"{INTEGER_REMEDY}, or retrain filters behind it only, for example with `last`"
    return "has no gradient", remedy
