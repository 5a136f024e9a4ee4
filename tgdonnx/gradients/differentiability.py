"""Why no gradient passes a node."""

from __future__ import annotations

from typing import Optional

import onnx_ir as ir

import tgdonnx.gradients.rules  # noqa: F401  # fills the table
from tgdonnx.gradients.rule import entry_of
from tgdonnx.graphs.operators import is_integer_arithmetic, is_standard
from tgdonnx.layers import INTEGER_REMEDY

_LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})


def makes_integers(node: ir.Node) -> bool:
    """Whether a node that has no gradient lacks it because of integer arithmetic, its own or that of its readers."""
    return is_integer_arithmetic(node) or is_standard(node, "QuantizeLinear")


def why_no_gradient(node: ir.Node) -> Optional[tuple[str, str]]:
    """Says of a node that has no gradient why, and what would help; None of one that has."""
    if entry_of(node) is not None:  # what is inside an If says so itself
        return None
    if makes_integers(node):
        return "has no gradient", f"{INTEGER_REMEDY}, or retrain filters behind it only, for example with `last`"
    remedy = "retrain filters behind it only, for example with `last`; if there are none, ask for a model without it"
    if is_standard(node, _LOOPS):
        return "repeats its body while the model runs, and has no gradient", remedy
    return "has no gradient", remedy
