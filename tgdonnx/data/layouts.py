"""What the axes of an array are, and samples as a model takes them.

A layout names axes: N samples, C channels, D, H, W space. A stored array and a model's input each have one. A model's
is NCHW, with as many axes of space as its rank leaves (targets of class indices lack C), unless it is said otherwise.

- LazyArray N: samples. Without N the array is one sample.
- LazyArray D that the input lacks: every slice is a sample. Without stored C the channels of the input are the slice and its
  neighbours, a 2.5-D stack: an odd number, the slice in the middle; beyond the first and the last slice, that slice again.
- The input's C that the array lacks: one channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from tgdonnx.data.lazy_arrays import UNKNOWN, Array, LazyArray, read_finite
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

SPACE = "DHW"
# What arrays of pictures and volumes usually look like: these are proposed when another would fit.
USUAL = ("NCHW", "NHWC", "NHW", "CHW", "HWC", "HW", "DHW", "HWD", "NCDHW", "NDHWC", "CDHW", "NCW", "NWC", "CW")

Window = Mapping[str, slice]


def check_layout(layout: str) -> None:
    """Checks what a user says.

    Raises:
        DataError: it is no layout.
    """
    stored, _, model = layout.partition(":")
    parts = (stored, model) if ":" in layout else (stored,)
    wrong = any(set(part) - set("NCDHW") or len(set(part)) != len(part) or "W" not in part for part in parts)
    if wrong or (model and model[0] != "N"):
        raise DataError(
            "expected a layout of the letters N, C, D, H, W, each once and with W, such as NHWC, HW or DHW, and after a "
            f"colon the model's, with N first, where it is not NCHW; got {layout!r}"
        )


def model_layout(spec: TensorSpec, stored: Optional[str]) -> Optional[str]:
    """Returns the layout of an input by its rank; None where it has no axes of space.

    An input whose axes of space are all of size 1, such as a noise level per sample, is no image.
    """
    labels = spec.takes_labels
    if spec.shape is None:
        space = "".join(letter for letter in stored or "" if letter in SPACE)
        return f"NC{space}" if space and not labels else None
    rank = len(spec.shape) - (1 if labels else 2)
    if spec.role == "input" and rank > 0 and all(size == 1 for size in spec.shape[-rank:]):
        return None
    return f"N{'' if labels else 'C'}{SPACE[-rank:]}" if 1 <= rank <= 3 else None


@dataclass(frozen=True)
class View:
    """A stored array as samples of an input.

    Attributes:
        stored: the array.
        source: its layout.
        layout: the input's; what stands for axes that are not named is in lower case. Without N the array is one value for all
            samples; then ``count`` is 0 and ``shape`` that of the array.
        stack: how many neighbouring slices are the channels of a sample; 0 where slices are no channels.
        count: samples.
        shape: of one sample, without N.
    """

    stored: LazyArray
    source: str
    layout: str
    stack: int
    count: int
    shape: tuple[int, ...]

    @property
    def axes(self) -> str:
        """The layout of a sample."""
        return self.layout.replace("N", "")

    @property
    def counts_samples(self) -> bool:
        """Whether the array has a value per sample."""
        return "N" in self.layout

    @property
    def space(self) -> dict[str, int]:
        """Sizes of a sample's axes of space."""
        return {letter: size for letter, size in zip(self.axes, self.shape) if letter in SPACE}

    def read(self, index: int, name: str, window: Optional[Window] = None) -> Array:
        """Returns a sample, or a window of it.

        Args:
            index: which.
            name: of the array, for messages.
            window: per axis of space where to cut.

        Raises:
            DataError: it cannot be read, or a value is not finite.
        """
        sizes = dict(zip(self.source, self.stored.shape))
        sliced = "D" in self.source and "D" not in self.layout
        depth = sizes["D"] if sliced else 1
        sample, place = divmod(index, depth)
        reach = self.stack // 2
        parts = {letter: slice(0, size) for letter, size in sizes.items()}
        parts.update({letter: part for letter, part in (window or {}).items() if letter in self.layout})
        if "N" in parts:
            parts["N"] = slice(sample, sample + 1)
        if sliced:
            parts["D"] = slice(max(0, place - reach), min(depth, place + reach + 1))
        values = read_finite(self.stored, tuple(parts[letter] for letter in self.source), name)
        axes = self.source
        if self.stack:
            wanted = np.clip(np.arange(place - reach, place + reach + 1), 0, depth - 1) - parts["D"].start
            values = np.take(values, wanted, axis=axes.index("D"))
            axes = axes.replace("D", "C")
        elif sliced:
            values, axes = values.take(0, axis=axes.index("D")), axes.replace("D", "")
        if "N" in axes:
            values, axes = values.take(0, axis=axes.index("N")), axes.replace("N", "")
        if "C" in self.axes and "C" not in axes:
            values, axes = values[np.newaxis], "C" + axes
        ordered: Array = np.asarray(values).transpose([axes.index(letter) for letter in self.axes])
        return ordered


def view(stored: LazyArray, spec: TensorSpec, said: Optional[str], where: str) -> View:
    """Returns an array as samples of an input.

    Args:
        stored: the array.
        spec: the input.
        said: its layout as the user says it, or None.
        where: what the array is, for messages.

    Raises:
        DataError: the layout does not fit the array, or cannot be brought to the input's.
    """
    source, _, model = (said or "").partition(":")
    if not source and stored.layout == UNKNOWN:
        raise DataError(
            f"{where} has the shape {list(stored.shape)}", remedy="say with `layout` what its axes are, such as NDHW"
        )
    source = source or stored.layout or ""
    if not source:
        return _as_it_is(stored, spec, where)
    if len(source) != len(stored.shape):
        raise DataError(f"{where} has {len(stored.shape)} axes {list(stored.shape)}; that is not {source}")
    target = model or model_layout(spec, source)
    if target is None:
        raise DataError(f"{where}: say the layout of {spec.name!r} in the model too, as in `layout='{source}:NCHW'`")
    if spec.shape is not None and len(target) != len(spec.shape):
        raise DataError(f"{spec.name!r} has {len(spec.shape)} axes in the model; that is not {target}")
    made = _convert(stored, spec, source, target)
    if isinstance(made, str):
        raise DataError(f"{where}: {source} cannot be brought to {target}, which {spec.name!r} is in the model: {made}")
    return made


def _as_it_is(stored: LazyArray, spec: TensorSpec, where: str) -> View:
    rank = len(stored.shape)
    if not rank:
        raise DataError(f"{where} has no axis that counts samples")
    shape = spec.shape if spec.shape is not None and len(spec.shape) == rank else (None,) * rank
    layout = model_layout(replace(spec, shape=shape), None) or f"N{plain_axes(rank - 1)}"
    return View(stored, layout, layout, 0, stored.shape[0], stored.shape[1:])


def plain_axes(count: int) -> str:
    """Returns letters for axes that have no names."""
    return "abcdefghijklmnopqrstuvwxyzABEFGIJKLMOPQRSTUVXYZ"[:count]


def _convert(stored: LazyArray, spec: TensorSpec, source: str, target: str) -> View | str:
    """Returns the view, or why there is none."""
    sizes = dict(zip(source, stored.shape))
    sliced = "D" in source and "D" not in target
    for letter in target:
        if letter in SPACE and letter not in source:
            return f"it lacks {letter}"
    for letter in source:
        if letter not in target and letter not in "ND":
            return f"the model has no axis for {letter}"
    stack = 0
    if "C" in target and "C" not in source:
        wanted = spec.shape[target.index("C")] if spec.shape is not None else None
        if sliced:
            stack = wanted or 1
            if stack % 2 == 0:
                return f"a stack needs an odd number of slices around the middle one, the model has {stack} channels"
            sizes["C"] = stack
        else:
            sizes["C"] = 1
    count = sizes.get("N", 1) * (sizes["D"] if sliced else 1)
    return View(stored, source, target, stack, count, tuple(sizes[letter] for letter in target if letter != "N"))


def layout_without(stored: LazyArray, spec: TensorSpec, count: Optional[int]) -> Optional[str]:
    """Returns the layout of an array of numpy or HDF5 that lacks the axis of one channel, of samples, or both.

    Args:
        stored: the array.
        spec: the input.
        count: samples of the arrays before it, where it is not the first.

    Returns:
        None where no axis lacks, or it is not certain which.
    """
    target = model_layout(spec, None)
    if stored.layout is not None or spec.shape is None or target is None or not len(stored.shape) < len(target):
        return None
    found: dict[tuple[int, tuple[int, ...]], str] = {}
    for lacking in ("C", "N", "NC"):
        source = "".join(letter for letter in target if letter not in lacking)
        made = _convert(stored, spec, source, target) if len(source) == len(stored.shape) else ""
        if isinstance(made, View) and fits(made, spec) and count in (None, made.count):
            found.setdefault((made.count, made.shape), source)  # an axis of size 1 may be either
    return next(iter(found.values())) if len(found) == 1 else None


def layouts_that_fit(stored: LazyArray, spec: TensorSpec) -> list[str]:
    """Returns the usual layouts in which an array would fit an input."""
    target = model_layout(spec, None)
    if target is None or spec.shape is None:
        return []
    found = []
    for source in USUAL:
        if len(source) != len(stored.shape):
            continue
        made = _convert(stored, spec, source, target)
        if isinstance(made, View) and fits(made, spec):
            found.append(source)
    return found


def fits(made: View, spec: TensorSpec) -> bool:
    """Whether samples have a shape that an input takes."""
    if spec.shape is None:
        return True
    # The batch axis may be fixed in the model; the batch size then has to fit, not the number of samples.
    expected = spec.shape[1:]
    return len(expected) == len(made.shape) and all(w is None or w == h for w, h in zip(expected, made.shape))
