"""Pooling: to the element that was the largest, or to all of a window in equal shares."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.rules.geometry import Window, crop_like
from tgdonnx.gradients.shapes import reshape_like


@rule("MaxPool")
def _max_pool(step: Step) -> Mapping[int, Gradient]:
    """MaxPool says itself where in the whole tensor each of its outputs is from."""
    build, node, window = step.build, step.node, Window.of(step)
    if node.attributes.get_int("storage_order", 0):
        raise step.refusal("numbers places column by column", "export the model without storage_order")
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if len(node.outputs) > 1 and node.outputs[1].name:
        places = node.outputs[1]
    else:
        _, places = build.several("MaxPool", [step.x], attributes, 2)
    flat = build("Expand", build.scalar(0, step.x), build("Reshape", build("Size", step.x), build.ints(1)))
    dy, where = (build("Reshape", value, build.ints(-1)) for value in (step.dy, places))
    if window.overlaps:
        spread = build("ScatterElements", flat, where, dy, axis=0, reduction="add")
    else:
        spread = build("ScatterElements", flat, where, dy, axis=0)
    return {0: reshape_like(build, spread, step.x)}


@rule("AveragePool")
def _average_pool(step: Step) -> Mapping[int, Gradient]:
    """A transposed convolution of every channel by itself with a window of ones."""
    build, window, node = step.build, Window.of(step), step.node
    rank = len(window.kernel)
    if node.attributes.get_int("ceil_mode", 0):
        raise step.refusal("rounds its size up (ceil_mode)", "this is lowered before")
    if node.attributes.get_int("count_include_pad", 0) or not any(window.pads):
        share = build("Div", step.dy, build.scalar(float(np.prod(window.kernel)), step.dy))
    else:
        ones = build("Expand", build.scalar(1, step.x), build("Shape", step.x))
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        # With the padding counted, the mean of ones is the part of the window that lies inside.
        inside = build("AveragePool", ones, **{**attributes, "count_include_pad": 1})
        inside = build("Mul", inside, build.scalar(float(np.prod(window.kernel)), step.x))
        share = build("Div", step.dy, inside)
    alone = _one_channel(step, share)
    kernel = build.constant(np.ones((1, 1, *window.kernel), (step.x.dtype or ir.DataType.FLOAT).numpy()))
    spread = window.transposed(build, alone, kernel, group=1)
    cropped = crop_like(build, spread, step.x, rank)
    return {0: reshape_like(build, cropped, step.x)}


def _one_channel(step: Step, value: ir.Value) -> ir.Value:
    build = step.build
    last = build("Shape", step.y, start=2)
    return build("Reshape", value, build("Concat", build.ints(-1, 1), last, axis=0))
