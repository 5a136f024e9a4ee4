"""ConvTranspose whose pads are given in a way that ONNX's shape inference (1.23) reads wrongly.

auto_pad = SAME_*    the pads take away what the kernel reaches beyond the stride, output_padding included, so the
output is stride times as long; inference adds output_padding once more
output_shape         may list all axes; inference takes those of the kernel only
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir


def explicit_pads(node: ir.Node, kernel: Sequence[int]) -> dict[str, list[int]]:
    """Returns the attributes that say the same explicitly: ``pads`` in place of auto_pad, or a shorter ``output_shape``.

    Args:
        node: a ConvTranspose.
        kernel: the lengths of its kernel.
    """
    axes, attributes = len(kernel), node.attributes
    shape = list(attributes.get_ints("output_shape") or [])
    if shape:
        return {"output_shape": shape[-axes:]} if len(shape) > axes else {}
    upper = attributes.get_string("auto_pad", "NOTSET") == "SAME_UPPER"
    if not upper and attributes.get_string("auto_pad", "NOTSET") != "SAME_LOWER":
        return {}
    strides = attributes.get_ints("strides") or [1] * axes
    dilations = attributes.get_ints("dilations") or [1] * axes
    added = attributes.get_ints("output_padding") or [0] * axes
    totals = [
        max(0, dilation * (size - 1) + 1 + more - stride)
        for size, stride, dilation, more in zip(kernel, strides, dilations, added)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return {"pads": [*small, *large] if upper else [*large, *small]}


def write_pads(node: ir.Node, kernel: Sequence[int]) -> bool:
    """Gives a ConvTranspose the attributes of `explicit_pads`; returns whether any changed."""
    explicit = explicit_pads(node, kernel)
    if "pads" in explicit:
        node.attributes.pop("auto_pad")
    for name, values in explicit.items():
        node.attributes[name] = ir.AttrInt64s(name, values)
    return bool(explicit)
