"""The gradient of the filters of a Conv by the runtime's own node for it, ``ConvGrad(dY, X, W) -> (dX, dW, dB)``.

It multiplies the matrix of dY with one in which the columns that each filter saw of X are laid out. Measured with
onnxruntime-training 1.19.2 on two cores (AVX-512), 8 images of 64 x 64, 64 to 64 filters of 3 x 3: 8.4 ms, where the products
of shifted slices that any runtime can compute take 26 to 30. So dW alone is computed by it; dX and dB are computed as anywhere
(dX 7.3 ms by a Conv with turned filters, 13.2 by ConvGrad, which adds columns up to an image on one thread).

dW of r filters needs r channels of dY, but columns of all of X, whatever r. With the roles of X and dY exchanged the columns of
dY are laid out, and the same numbers are found, turned and transposed: for 6 filters 1.3 ms instead of 3.5. dW of the kernels
that read c maps needs c channels of X; whichever of X and dY has fewer channels then is laid out.

With groups ConvGrad writes beyond its memory in one dimension and is wrong in three: there, dW is computed as anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import onnx_ir as ir

from tgdonnx.gradients import RULES as STANDARD_RULES
from tgdonnx.gradients import Rules
from tgdonnx.gradients.demand import Part
from tgdonnx.gradients.rule import Gradient, Step
from tgdonnx.gradients.rules.geometry import Window, filter_sizes
from tgdonnx.graphs.builder import AttributeValue

_STANDARD = STANDARD_RULES["", "Conv"]


def _conv(step: Step) -> Mapping[int, Gradient]:
    groups = step.node.attributes.get_int("group", 1)
    if not step.wants(1) or groups != 1 or step.x.dtype != ir.DataType.FLOAT:
        return _standard(step)
    sizes = filter_sizes(step)
    others = {source: demand for source, demand in step.demands.items() if source != 1}
    return {**_standard(replace(step, demands=others)), 1: [_filter_gradient(step, p, sizes) for p in step.demand(1)]}


def _standard(step: Step) -> Mapping[int, Gradient]:
    return cast("Mapping[int, Gradient]", _STANDARD.rule(step))


RULES: Rules = {**STANDARD_RULES, ("", "Conv"): replace(_STANDARD, rule=_conv)}


def _filter_gradient(step: Step, part: Part, shape: tuple[int, ...]) -> ir.Value:
    """Returns dW of some filters (rows), or of the kernels in them that read some maps (columns)."""
    build, window = step.build, Window.of(step, shape[2:])
    rows, columns = part.along(0), part.along(1)
    x, dy, weight = step.x, step.dy, step.input(1)
    filters, maps = shape[:2]
    if rows is not None:
        filters, dy, weight = len(rows), build.take(dy, rows, 1), build.take(weight, rows, 0)
    if columns is not None:
        maps, x, weight = len(columns), build.take(x, columns, 1), build.take(weight, columns, 1)
    if filters >= maps or window.may_leave_out or min(window.turned_pads) < 0:
        return _conv_grad(step, window, (dy, x, weight), window.pads)
    exchanged = _conv_grad(step, window, (x, dy, _swapped(step, window, weight)), window.turned_pads)
    gradient = _swapped(step, window, exchanged)
    for axis, size in enumerate(window.kernel, start=2):
        if size > 1:
            gradient = build("Gather", gradient, build.ints(*range(size - 1, -1, -1)), axis=axis)
    return gradient


def _conv_grad(
    step: Step, window: Window, inputs: tuple[ir.Value, ir.Value, ir.Value], pads: tuple[int, ...]
) -> ir.Value:
    """Writes a ConvGrad that computes dW alone; of the filters among its inputs only the shape counts."""
    attributes: dict[str, AttributeValue] = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "pads": list(pads),
    }
    unread, gradient = step.build.several("ConvGrad", inputs, attributes, 2, domain="com.microsoft")
    unread.name = ""
    return gradient


def _swapped(step: Step, window: Window, filters: ir.Value) -> ir.Value:
    """Returns filters with the axes of filters and maps exchanged."""
    return step.build("Transpose", filters, perm=[1, 0, *range(2, 2 + len(window.kernel))])
