"""What messages say of an array that does not fit its input, and with which options it would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from tgdonnx.data.labels import labels_hint
from tgdonnx.data.layouts import SPACE, View, layouts_that_fit
from tgdonnx.data.lazy_arrays import LazyArray
from tgdonnx.data.pictures import CHANNELS, Colour
from tgdonnx.graphs.tensor_specs import TensorSpec


def mismatch(spec: TensorSpec, stored: LazyArray, made: Optional[View] = None) -> str:
    """Returns what is expected of an array and what it is; with ``made``, also what comes of it as samples."""
    found = f"{stored.dtype} {shape_text(stored.shape)}"
    if made is not None and made.source != made.layout:
        found += f", which as {made.source} gives samples of {shape_text(made.shape)}"
    return f"{stored.place}: expected {spec.name!r} to be {spec.dtype} {shape_text(spec.shape)}, found {found}"


def shape_hint(
    spec: TensorSpec, stored: LazyArray, made: View, *, classified: bool = False
) -> tuple[Mapping[str, object], str]:
    """Returns options that would make an array fit, if there are any, and what a message says of that.

    Args:
        spec: the input.
        stored: the array.
        made: it, as samples that do not fit.
        classified: whether a sample has one label, which it keeps when it is resized.
    """
    colour = _colour(spec, stored, made)
    if colour is not None:
        return {"colour": colour}, f"; `colour={colour!r}` makes pictures of that of others"
    others = [layout for layout in layouts_that_fit(stored, spec) if layout != made.source]
    if others:
        said = " or ".join(f"`layouts={{{spec.name!r}: {layout!r}}}`" for layout in others)
        fitting: Mapping[str, object] = {"layouts": {spec.name: others[0]}} if len(others) == 1 else {}
        return fitting, f"; it would fit as {said}, if that is what it is"
    if spec.takes_labels:
        return {}, f"; {labels_hint(stored.shape, spec)}"
    if _may_be_labels(spec, stored, made):
        return {}, "; if these are class indices, build with `loss='ce'`"
    if spec.shape is not None and made.layout[0] == "N" and len(spec.shape) == len(made.layout):
        want = dict(zip(made.layout, spec.shape))
        space = {letter: size for letter, size in want.items() if letter in SPACE}
        sizes = dict(zip(made.axes, made.shape))
        if classified and spec.role == "input" and stored.dtype == np.uint8 and stored.layout in ("HW", "HWC"):
            both = tuple(space.values())
            if None not in both and want.get("C") in (None, sizes.get("C")):
                return {"resize": both}, f"; `resize={both}` brings pictures to that size"
        if want.get("C") in (None, sizes.get("C")) and all(s and s <= sizes[letter] for letter, s in space.items()):
            if spec.role != "input":
                return {"crop_target": True}, "; `crop_target` takes the centre of targets that is of the output's size"
            patch = tuple(space.values())
            return {"patch": patch}, f"; `patch={patch}` trains on patches of that size"
    return {}, ""


def _may_be_labels(spec: TensorSpec, stored: LazyArray, made: View) -> bool:
    """Whether a target is whole numbers of one channel, where the output has several."""
    if spec.role != "target" or stored.dtype.kind not in "iu" or spec.shape is None or len(spec.shape) < 2:
        return False
    channels = dict(zip(made.axes, made.shape)).get("C", 1) if made.layout[0] == "N" else 1
    return channels == 1 and spec.shape[1] not in (None, 1)


def _colour(spec: TensorSpec, stored: LazyArray, made: View) -> Optional[Colour]:
    """Returns the colour that pictures of another would have to be of to have as many channels as the model takes."""
    if spec.shape is None or len(spec.shape) != len(made.layout) or stored.layout not in ("HW", "HWC"):
        return None
    wanted, found = dict(zip(made.layout, spec.shape)).get("C"), dict(zip(made.axes, made.shape)).get("C")
    if stored.dtype != np.uint8 or found == wanted or found not in CHANNELS.values():
        return None
    return next((colour for colour, channels in CHANNELS.items() if channels == wanted), None)


def scale_hint(spec: TensorSpec, stored: LazyArray) -> tuple[Mapping[str, object], str]:
    """Returns the option by which an array of another type is read, if there is one, and how a message says that."""
    if is_picture(spec, stored):
        most = int(np.iinfo(stored.dtype).max)
        return {
            "scale": most
        }, f"; convert it, or say how: `scale={most}` divides by it, `scale=1` takes the numbers as they are"
    if stored.dtype.kind in "biuf" and (spec.dtype == "float32" or np.can_cast(stored.dtype, spec.dtype)):
        as_it_is = {"scales": {spec.name: 1}}
        convert = f"convert it, in numpy with .astype({spec.dtype!r}), or say how"
        return as_it_is, f"; {convert}: `scales={as_it_is['scales']}` takes the numbers as they are"
    return {}, "; convert it"


def is_picture(spec: TensorSpec, stored: LazyArray) -> bool:
    """Whether an array holds what pictures do, for an input of float32."""
    return spec.dtype == "float32" and stored.dtype in (np.uint8, np.uint16)


def shape_text(shape: Optional[Sequence[Optional[int]]]) -> str:
    """Returns a shape in words."""
    return "of any shape" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
