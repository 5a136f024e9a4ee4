"""The rules, one module per operator family; importing this fills the table `tgdonnx.gradients.rule.RULES`."""

from tgdonnx.gradients.rules import (
    activations,
    arithmetic,
    branches,
    convolution,
    losses,
    matrices,
    normalization,
    padding,
    passing,
    piecewise,
    pooling,
    quantization,
    rearranging,
    reductions,
    selecting,
)

__all__ = [
    "activations",
    "arithmetic",
    "branches",
    "convolution",
    "losses",
    "matrices",
    "normalization",
    "padding",
    "passing",
    "piecewise",
    "pooling",
    "quantization",
    "rearranging",
    "reductions",
    "selecting",
]
