"""What operators do to receptive fields: one rule per kind of operator, from the axes of inputs to those of the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Optional

import numpy as np

from tgdonnx.applying import reach as reaches
from tgdonnx.applying.node_view import Axes, NotLocal, ReceptiveView
from tgdonnx.applying.reach import Reach
from tgdonnx.applying.windows import conv, conv_transpose, pool
from tgdonnx.graphs.operators import (
    ELEMENTWISE,
    EXTREME_PLACES,
    POOLS,
    QUANTIZERS,
    REDUCTIONS,
    RESIZES,
    SOFTMAXES,
)


def _elementwise(view: ReceptiveView) -> Axes:
    """Axes line up at the last one; what is stored must be the same everywhere in the image."""
    inputs = [value for value in view.node.inputs if value is not None]
    shapes = {value: view.shape(value) for value in inputs if value not in view.known}
    rank = max(len(view.known[v]) if v in view.known else len(shapes[v]) for v in inputs)
    joined: list[Optional[Reach]] = [None] * rank
    images = [view.known[value] for value in inputs if value in view.known]
    for axes in images:
        for place, reach in enumerate(axes, rank - len(axes)):
            other = joined[place]
            if reach is not None:
                if other is not None and (other.axis, other.scale) != (reach.axis, reach.scale):
                    raise NotLocal("combines maps of different resolution")
                joined[place] = reach if other is None else other.joined(reach)
    for axes in images:
        for place, reach in enumerate(axes, rank - len(axes)):
            if reach is None and joined[place] is not None:
                raise NotLocal("combines an axis of the image with another")
    for shape in shapes.values():
        for place, size in enumerate(shape, rank - len(shape)):
            if size != 1 and joined[place] is not None:
                raise NotLocal("takes a stored tensor that differs from place to place")
    return tuple(joined)


def _along_channels(view: ReceptiveView) -> Axes:
    """Operators along one axis, which must be none of space, and leave the axes as they are."""
    axes = view.image()
    _require_no_space(axes, [view.integer("axis", -1)])
    return axes


def _softmax(view: ReceptiveView) -> Axes:
    if view.opset < 13:
        axes = view.image()
        _require_no_space(axes, list(range(view.integer("axis") % len(axes), len(axes))))
        return axes
    return _along_channels(view)


def _concat(view: ReceptiveView) -> Axes:
    inputs = [value for value in view.node.inputs if value is not None]
    if not all(value in view.known for value in inputs):
        raise NotLocal("joins the image with a stored tensor")
    axes = _elementwise(view)
    _require_no_space(axes, [view.integer("axis", 1)])
    return axes


def _gather(view: ReceptiveView) -> Axes:
    axes = view.image()
    axis = view.integer("axis")
    _require_no_space(axes, [axis])
    place = axis % len(axes)
    return (*axes[:place], *[None] * len(view.shape(view.input(1))), *axes[place + 1 :])


def _reduce(view: ReceptiveView) -> Axes:
    axes = view.image()
    given = [view.integer("axis")] if view.node.op_type in EXTREME_PLACES else view.stored_integers(1, "axes")
    if not given:
        if view.integer("noop_with_empty_axes"):
            return axes
        given = list(range(len(axes)))
    gone = {axis % len(axes) for axis in given}
    _require_no_space(axes, list(gone))
    keep = view.integer("keepdims")
    return tuple(reach for place, reach in enumerate(axes) if keep or place not in gone)


def _squeeze(view: ReceptiveView) -> Axes:
    axes, given = view.image(), view.stored_integers(1, "axes")
    if given is None:
        raise NotLocal("removes axes that it does not name")
    gone = {axis % len(axes) for axis in given}
    _require_no_space(axes, list(gone))
    return tuple(reach for place, reach in enumerate(axes) if place not in gone)


def _unsqueeze(view: ReceptiveView) -> Axes:
    axes, given = list(view.image()), view.stored_integers(1, "axes") or []
    rank = len(axes) + len(given)
    for place in sorted(axis % rank for axis in given):
        axes.insert(place, None)
    return tuple(axes)


def _transpose(view: ReceptiveView) -> Axes:
    axes = view.image()
    order = view.integers("perm")
    return tuple(axes[place] for place in order) if order is not None else axes[::-1]


def _matmul(view: ReceptiveView) -> Axes:
    axes = view.image()
    _require_no_space(axes, [-1])
    if len(view.shape(view.input(1))) != 2 or len(axes) < 2:
        raise NotLocal("is a product of more than a matrix and pixels")
    return axes


def _require_no_space(axes: Axes, places: list[int]) -> None:
    if any(axes[place % len(axes)] is not None for place in places):
        raise NotLocal("computes along an axis of space, so it looks at the whole image")


def _pad(view: ReceptiveView) -> Axes:
    axes, mode = view.image(), view.text("mode")
    pads = view.integers("paddings") or view.stored_integers(1, "pads") or []
    chosen = view.stored_integers(3, "axes")
    places = list(range(len(axes))) if chosen is None else [axis % len(axes) for axis in chosen]
    result = list(axes)
    for index, place in enumerate(places):
        begin, end = pads[index], pads[index + len(places)]
        reach = axes[place]
        if reach is None or (begin, end) == (0, 0):
            continue
        if mode == "wrap":
            raise NotLocal("wraps the image around")
        result[place] = reaches.padded(reach, begin, end, mirrored=mode == "reflect")
    return tuple(result)


def _slice(view: ReceptiveView) -> Axes:
    axes = view.image()
    starts, ends, chosen, steps = (
        view.stored_integers(place, name) for place, name in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    assert starts is not None
    assert ends is not None
    places = range(len(starts)) if chosen is None else [axis % len(axes) for axis in chosen]
    result = list(axes)
    for index, place in enumerate(places):
        reach, start, end = axes[place], starts[index], ends[index]
        step = 1 if steps is None else steps[index]
        if reach is None:
            continue
        if start < 0 or step < 1 or 0 <= end < 2**31 - 1:
            raise NotLocal("cuts at a fixed place in the image")
        result[place] = reaches.sliced(reach, start, -min(end, 0), step)
    return tuple(result)


def _split(view: ReceptiveView) -> Axes:
    axes = view.image()
    _require_no_space(axes, [view.integer("axis")])
    return axes


def _depth_to_space(view: ReceptiveView) -> Axes:
    axes, block, up = view.image(), view.integer("blocksize"), view.node.op_type == "DepthToSpace"
    if len(axes) != 4 or axes[0] is not None or axes[1] is not None:
        raise NotLocal("moves pixels between other axes than those of space")
    return tuple(None if reach is None else reaches.scaled(reach, block, up=up) for reach in axes)


_SHIFTS: Mapping[str, Callable[[Fraction], Fraction]] = {
    "asymmetric": lambda _: Fraction(0),
    "half_pixel": lambda factor: Fraction(1, 2) / factor - Fraction(1, 2),
    "pytorch_half_pixel": lambda factor: Fraction(1, 2) / factor - Fraction(1, 2),
    "tf_half_pixel_for_nn": lambda factor: Fraction(1, 2) / factor,
}
_TAPS = {"nearest": 1, "linear": 1, "cubic": 2}


def _resize(view: ReceptiveView) -> Axes:
    axes, upsample = view.image(), view.node.op_type == "Upsample" or view.opset < 11
    scales = view.stored(1 if upsample else 2, "scales")
    if scales is None or not scales.size:
        raise NotLocal("resizes to a fixed size, or to one that depends on that of the image")
    coordinates = view.text("coordinate_transformation_mode")
    mode = "asymmetric" if upsample else coordinates
    if mode not in _SHIFTS or view.integer("antialias"):
        raise NotLocal(f"resizes by {mode}, with coordinates that depend on the size of the image")
    places = view.integers("axes") or list(range(len(axes)))
    result = list(axes)
    for place, scale in zip(places, np.asarray(scales, np.float64)):
        reach = axes[place % len(axes)]
        if scale == 1:
            continue
        factor = Fraction(float(scale)).limit_denominator(64)
        if reach is None or np.float32(factor) != np.float32(scale):
            raise NotLocal(f"resizes by {scale:g}")
        if mode == "pytorch_half_pixel" and factor < 1:
            raise NotLocal("resizes by coordinates that depend on the size of the image")
        taps = _TAPS[view.text("mode").replace("bilinear", "linear")]
        result[place % len(axes)] = reaches.resized(reach, factor, _SHIFTS[mode](factor), taps)
    return tuple(result)


def _batch_norm(view: ReceptiveView) -> Axes:
    if view.integer("training_mode"):
        raise NotLocal("takes statistics of the whole image")
    axes = view.image()
    if len(axes) > 1 and axes[1] is not None:
        raise NotLocal("has one number per place")
    return axes


def _per_channel(view: ReceptiveView) -> Axes:
    """Quantisation per tensor or per channel."""
    axes = view.image()
    if view.shape(view.input(1)) not in ((), (1,)):
        _require_no_space(axes, [view.integer("axis", 1)])
    return axes


RULES: Mapping[str, Callable[[ReceptiveView], Axes]] = {
    **dict.fromkeys(ELEMENTWISE | {"Dropout"}, _elementwise),
    **dict.fromkeys(REDUCTIONS | EXTREME_PLACES, _reduce),
    **dict.fromkeys(SOFTMAXES, _softmax),
    **dict.fromkeys(POOLS, pool),
    **dict.fromkeys(RESIZES, _resize),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _depth_to_space),
    **dict.fromkeys(QUANTIZERS, _per_channel),
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gather": _gather,
    "LRN": ReceptiveView.image,
    "LpNormalization": _along_channels,
    "MatMul": _matmul,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
