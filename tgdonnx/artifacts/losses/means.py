"""Means of what losses find: over all elements, or of those that count. The mean of nothing is 0, and so is its gradient."""

from __future__ import annotations

from typing import Optional

import onnx_ir as ir

from tgdonnx.graphs.builder import Builder


def mean(builder: Builder, elements: ir.Value, weight: Optional[ir.Value]) -> ir.Value:
    """Writes sum(w e) / sum(w); w, of 0 and more, spreads over axes in which it has size 1. Without w, the mean."""
    if weight is None:
        return builder("ReduceMean", elements, keepdims=0)
    counted = builder("Expand", weight, builder("Shape", elements))
    return quotient(builder, builder("Mul", elements, weight), counted)


def quotient(builder: Builder, elements: ir.Value, counted: ir.Value) -> ir.Value:
    """Writes sum(elements) / sum(counted), and 0 where nothing is counted."""
    total = builder("ReduceSum", counted, keepdims=0)
    nothing = builder.mask("LessOrEqual", total, builder.scalar(0))
    return builder("Div", builder("ReduceSum", elements, keepdims=0), builder("Add", total, nothing))
