"""MaxPool and AveragePool in the forms that have no rule: pads left to the runtime, other orders of places, sizes rounded up.

    MaxPool       x[indices], which MaxPool gives with its values: gathered from x as one row, so that no gradient needs to
                  pass the MaxPool itself
    AveragePool   a depthwise convolution with ones, over the number of elements in each window; with `count_include_pad`,
                  over the size of the kernel

With `ceil_mode` the convolution gets stride - 1 more of padding at the end, which is what rounding up comes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.builder import AttributeValue
from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.auto_pad import same_pads
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerPooling(Lowering):
    """Replaces MaxPool and AveragePool."""

    op_types: ClassVar = frozenset(["MaxPool", "AveragePool"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the pooling as Gather or Conv."""
        return _max_pool(emit, node) if node.op_type == "MaxPool" else _average_pool(emit, node)


def _max_pool(emit: Emitter, node: ir.Node) -> ir.Value:
    x = first_input(node)
    attributes = {name: attribute for name, attribute in node.attributes.items() if name != "storage_order"}
    _, places = emit.several("MaxPool", [x], attributes, 2)
    return emit("Gather", emit.reshape(x, [-1]), places, axis=0)


def _average_pool(emit: Emitter, node: ir.Node) -> ir.Value:
    x, rank = first_input(node), emit.rank(first_input(node))
    channels = x.shape[1] if x.shape is not None and rank > 2 else None
    if not isinstance(channels, int):
        raise emit.refusal("has an unknown number of channels", "declare the shapes of the inputs of the model")
    kernel, window = list(node.attributes["kernel_shape"].as_ints()), _window(node)
    pads, counts_pads = _pads(emit, node, kernel), node.attributes.get_int("count_include_pad", 0) != 0
    weight = np.ones((channels, 1, *kernel), np.float32)
    if isinstance(pads, list) and (not any(pads) or counts_pads):
        weight /= np.float32(np.prod(kernel))
        return emit("Conv", x, emit.constant(weight), group=channels, pads=pads, **window)
    one_map = emit("Gather", emit("Gather", x, emit.ints(0), axis=0), emit.ints(0), axis=1)
    ones = emit.complement(emit.mask("Less", one_map, one_map))
    if isinstance(pads, ir.Value):
        x, ones, pads = emit("Pad", x, pads), emit("Pad", ones, pads), [0] * (2 * len(kernel))
    total = emit("Conv", x, emit.constant(weight), group=channels, pads=pads, **window)
    if counts_pads:
        return emit("Div", total, emit.scalar(float(np.prod(kernel))))
    counts = emit("Conv", ones, emit.constant(weight[:1]), pads=pads, **window)
    return emit("Div", total, emit("Add", counts, emit.mask("Less", counts, emit.scalar(0.5))))


def _window(node: ir.Node) -> Mapping[str, AttributeValue]:
    """Returns the attributes of a Conv whose windows are those of the pooling, but for the pads."""
    given = {name: node.attributes.get_ints(name) for name in ("kernel_shape", "strides", "dilations")}
    return {name: list(values) for name, values in given.items() if values}


def _pads(emit: Emitter, node: ir.Node, kernel: list[int]) -> list[int] | ir.Value:
    attributes, axes = node.attributes, len(kernel)
    auto_pad = attributes.get_string("auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return same_pads(emit, first_input(node), node, kernel)
    pads = list(attributes.get_ints("pads") or [0] * (2 * axes)) if auto_pad == "NOTSET" else [0] * (2 * axes)
    if attributes.get_int("ceil_mode", 0) != 0:
        strides = attributes.get_ints("strides") or [1] * axes
        pads[axes:] = [pad + stride - 1 for pad, stride in zip(pads[axes:], strides)]
    return pads
