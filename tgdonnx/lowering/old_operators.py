"""Operators of old operator sets that ONNX's converter gets wrong or does not know, in the words of opset 13.

    Add, ..., Xor    opset 6: b is aligned with the axes of a from `axis` on; now with the last ones
    PRelu            opset 6: a slope per channel has one axis
    Softmax, ...     opset 12: over all axes from `axis` on at once
    Upsample, Resize opset 10: pixel i lies at i * scale; a nearest one is found by rounding down, on axes that shrink up
    Dropout, Batch-  opset 6: in training form unless `is_test` is set
      Normalization
    Cast             opset 5: the type is given by its name
    Pad              opset 1: another name for its pads
    Gemm             opset 6: a flag to allow what is always allowed now

Some set attributes only; others put nodes in front of theirs, or in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.builder import Builder, replace
from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.nodes import first_input, refusal, required_input

SOFTMAXES = ("Softmax", "LogSoftmax", "Hardmax")
_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}
_SELU = {"alpha": 1.6732, "gamma": 1.0507}  # the defaults of opset 1


def _align(node: ir.Node) -> None:
    """Lets the second operand end where the axes of the first do, as broadcasting has it since opset 7."""
    axis, allowed = node.attributes.pop("axis", None), node.attributes.pop("broadcast", None)
    if axis is None or allowed is None or allowed.as_int() == 0:
        return
    a, b = node.inputs[:2]
    assert b is not None
    if a is None or a.shape is None or b.shape is None:
        raise refusal(node, "broadcasts, but the rank of an input is not known", "declare the shapes of the inputs")
    if not b.shape:
        return
    _append_axes(node, b, len(a.shape) - axis.as_int() % len(a.shape) - len(b.shape))


def _slope(node: ir.Node) -> None:
    x, slope = node.inputs[:2]
    if x is None or x.shape is None or slope is None or slope.shape is None:
        raise refusal(node, "has an input or slope of unknown rank", "declare the shapes of the inputs")
    if len(slope.shape) == 1 and slope.shape[0] != 1:
        _append_axes(node, slope, len(x.shape) - 2)


def _append_axes(node: ir.Node, b: ir.Value, count: int) -> None:
    if count <= 0:
        return
    assert b.shape is not None
    axes = range(len(b.shape), len(b.shape) + count)
    aligned = Builder.before(node).unsqueeze(b, axes)
    aligned.shape = ir.Shape([*b.shape, *[1] * count])
    node.replace_input_with(1, aligned)


def _softmax(node: ir.Node, _opset: int) -> None:
    """Flattens the axes from `axis` on into one, if they are several."""
    x = first_input(node)
    axis = node.attributes.get_int("axis", 1)
    rank = len(x.shape) if x.shape is not None else None
    if x.shape is not None and rank is not None and all(dim == 1 for dim in x.shape[axis % rank + 1 :]):
        node.attributes["axis"] = ir.AttrInt64("axis", axis)
        return
    build = Builder.before(node)
    spread = build(node.op_type, build("Flatten", x, axis=axis), axis=-1)
    maker = spread.producer()
    assert maker is not None
    maker.name = node.name
    maker.meta.update(node.meta)
    replace(node, build("Reshape", spread, build("Shape", x)))


def _resize(node: ir.Node, opset: int) -> None:
    """Writes an Upsample, or a Resize of opset 10, as one of opset 13, or as two if some axes grow and others shrink."""
    if node.op_type == "Resize" and opset >= 11:
        return
    mode = node.attributes.get_string("mode", "nearest") or ""
    if mode not in _MODES:
        raise refusal(node, f"has the mode {mode!r}", "expected nearest or linear")
    build, x = Builder.before(node), first_input(node)
    scales, known = _scales(build, node, opset)
    y = x
    if mode != "nearest":
        y = _resized(build, y, scales, mode=_MODES[mode])
    elif known is None:
        if node.op_type == "Resize":
            raise refusal(node, "computes its scales", "export the model with opset 11 or newer")
        y = _resized(build, y, scales, mode="nearest", nearest_mode="floor")
    else:
        parts = [(np.maximum(known, 1), "floor"), (np.minimum(known, 1), "ceil")]
        parts = [(part, rounding) for part, rounding in parts if (part != 1).any()]
        for part, rounding in parts:
            if len(parts) > 1 and not _surely_resizes(x, part):
                remedy = "export the model with opset 11 or newer, or fix the size of its input"
                raise refusal(node, "grows on some axes and shrinks on others, or may keep their sizes", remedy)
            part_scales = build.constant(part.astype(np.float32), "scales")
            y = _resized(build, y, part_scales, mode="nearest", nearest_mode=rounding)
    if y is x:
        y = build("Identity", x)
    maker = y.producer()
    assert maker is not None
    maker.name = node.name
    maker.meta.update(node.meta)
    replace(node, y)


def _surely_resizes(x: ir.Value, scales: NDArray[np.float32]) -> bool:
    """Whether some axis gets another size; runtimes copy what keeps its shape, whatever the scales."""
    dims = (
        [d if isinstance(d, int) and d > 0 else None for d in x.shape] if x.shape is not None else [None] * scales.size
    )
    return any(
        scale >= 2 or scale <= 0.5 or (dim is not None and int(np.float32(dim) * scale) != dim and scale != 1)
        for scale, dim in zip(scales, dims)
    )


def _scales(build: Builder, node: ir.Node, opset: int) -> tuple[ir.Value, Optional[NDArray[np.float32]]]:
    """Returns the scales as a tensor, and their values if those are stored."""
    if opset >= 9:
        scales = required_input(node, 1)
        stored = known_array(scales)
        return scales, None if stored is None else stored.astype(np.float32)
    if opset >= 7:
        given = list(node.attributes["scales"].as_floats())
    else:
        given = [1, 1, node.attributes["height_scale"].as_float(), node.attributes["width_scale"].as_float()]
    known = np.array(given, np.float32)
    return build.constant(known, "scales"), known


def _resized(build: Builder, x: ir.Value, scales: ir.Value, **attributes: str) -> ir.Value:
    return build("Resize", x, None, scales, coordinate_transformation_mode="asymmetric", **attributes)


def _dropout(node: ir.Node, opset: int) -> None:
    _require_inference_form(node, opset)
    if opset < 10 and any(mask.uses() or mask.is_graph_output() for mask in node.outputs[1:]):
        raise refusal(node, "gives out its mask", "only its first output can be converted")
    if opset < 12:
        node.attributes.pop("ratio", None)


def _batch_normalization(node: ir.Node, opset: int) -> None:
    _require_inference_form(node, opset)
    spatial = node.attributes.pop("spatial", None)
    if spatial is not None and spatial.as_int() == 0:
        raise refusal(node, "has statistics per pixel (spatial = 0)", "export it with a newer opset")


def _require_inference_form(node: ir.Node, opset: int) -> None:
    is_test = node.attributes.pop("is_test", None)
    if opset < 7 and (is_test is None or is_test.as_int() == 0):
        raise refusal(node, "is in training form (is_test = 0)", "export the model for inference")


def _cast(node: ir.Node, _opset: int) -> None:
    to = node.attributes["to"]
    if to.type == ir.AttributeType.STRING:
        name = to.as_string().upper()
        names = onnx.TensorProto.DataType.keys()
        if name not in names:
            raise refusal(node, f"casts to {name!r}, which is no type", "export the model again")
        node.attributes["to"] = ir.AttrInt64("to", onnx.TensorProto.DataType.Value(name))


def _pad(node: ir.Node, _opset: int) -> None:
    paddings = node.attributes.pop("paddings", None)
    if paddings is not None:
        node.attributes["pads"] = ir.AttrInt64s("pads", paddings.as_ints())


def _gemm(node: ir.Node, _opset: int) -> None:
    node.attributes.pop("broadcast", None)


def _selu(node: ir.Node, opset: int) -> None:
    for name, value in _SELU.items() if opset < 6 else ():
        if name not in node.attributes:
            node.attributes[name] = ir.AttrFloat32(name, value)


# Before opset 7, once everything else is of opset 13; they need the ranks of inputs.
RULES_OF_RANKS: Mapping[str, Callable[[ir.Node], None]] = {**dict.fromkeys(_BINARY, _align), "PRelu": _slope}

# Before opset 13.
RULES: Mapping[str, Callable[[ir.Node, int], None]] = {
    **dict.fromkeys(SOFTMAXES, _softmax),
    **dict.fromkeys(("Upsample", "Resize"), _resize),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "Pad": _pad,
    "Selu": _selu,
}
