"""Noise2Noise: training without clean targets (Lehtinen et al., ICML 2018), from two noisy images of the same study.

The noise of one image says nothing about that of the other, so a network that is trained to turn one into the other can do no
better than to give what they have in common. Both ways are trained: A to B and B to A. A network can learn the noise of one
small study by heart all the same. Against that a part of the study is held out of both images; the loss on it, which is
against noise too, rises when noise is fitted, and the run keeps the weights where it was lowest. Where there is validation data
of its own, with clean targets, that is the guard, and all of the study is trained on.

On what is held out only rmse is measured: it is of two errors, that of the output and the noise of the target, so it never
comes near 0, and its change tells which weights are better. A psnr there would mostly be that of the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

import numpy as np

from tgdonnx.data.array_likes import ArrayLike
from tgdonnx.data.layouts import SPACE, View
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray, Region, regions
from tgdonnx.data.matching import match
from tgdonnx.data.options import DataOptions
from tgdonnx.data.patches import along_axes
from tgdonnx.data.sources import Source, open_array
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import StrPath
from tgdonnx.finetuning.metrics import MetricName
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec

# The run ends after so many validations without a better one, if nothing else is asked for.
PATIENCE = 5
_PLANES = 24  # looked at for what the noise of two images has in common
_RUN = 32  # pixels in a row of which a correlation is taken
_SUSPICIOUS = 0.5
METRICS_OF_NOISE: tuple[MetricName, ...] = ("rmse",)
"""What is measured where targets are noisy."""


def paths_of(data: object) -> tuple[object, ...]:
    """Returns what training data was given as: one thing, or the two of `Noise2Noise`."""
    return (data.a, data.b) if isinstance(data, Noise2Noise) else (data,)


@dataclass(frozen=True)
class Noise2Noise:
    """Two noisy images of the same study, with independent noise.

    Attributes:
        a: an array, or a file as of `tgdonnx.apply`.
        b: the other, in the same axes.
        held_out: the fraction of the study that is held out, where there is no other data to validate with.
    """

    a: Union[StrPath, ArrayLike]
    b: Union[StrPath, ArrayLike]
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise DataError(f"expected a fraction between 0 and 1 to hold out, got {self.held_out:g}")


def require_pairable(options: DataOptions) -> None:
    """Checks that options fit two noisy images.

    Raises:
        DataError: they do not.
    """
    if options.map:
        raise DataError("two noisy images have no names to map", remedy="leave out `map`")
    if options.validation_split is not None:
        raise DataError("of two noisy images a part is held out already", remedy="leave out the validation split")


def open_whole_pair(pair: Noise2Noise, inputs: Sequence[TensorSpec], options: DataOptions) -> Source:
    """Opens two noisy images as data to train on, where there is other data to validate with; both ways are groups.

    Args:
        pair: the images.
        inputs: what a training step is fed: an image and the target.
        options: how the data is read.

    Raises:
        DataError: an image cannot be read, does not fit the model or the other image, or is the other image.
        RuntimeMissingError: the library for a format is not installed.
    """
    a, b, view = _opened(pair, inputs, options)
    remarks = ("trained from A to B and from B to A", *_warning(a, b, view))
    return replace(_both_ways(a, b, [spec.name for spec in inputs]), remarks=remarks)


def open_pair(pair: Noise2Noise, inputs: Sequence[TensorSpec], options: DataOptions) -> tuple[Source, Source]:
    """Opens two noisy images as data to train on, and data that is held out.

    Each has both ways as groups. What is held out is a run of samples or slices from the middle, or a strip of the image.

    Args:
        pair: the images.
        inputs: what a training step is fed: an image and the target.
        options: how the data is read.

    Raises:
        DataError: an image cannot be read, does not fit the model or the other image, is the other image, or is too small for
            a part of it to be held out.
        RuntimeMissingError: the library for a format is not installed.
    """
    a, b, view = _opened(pair, inputs, options)
    names = [spec.name for spec in inputs]
    letter, held = _choose(view, options, pair.held_out)
    axis = view.source.index(letter)
    rest = [part for part in ((0, held[0]), (held[1], a.shape[axis])) if part[0] < part[1]]
    training: list[ArrayGroup] = []
    for first, last in rest:
        training += _both_ways(_part(a, axis, first, last), _part(b, axis, first, last), names).groups
    unit = {"N": "samples", "D": "slices", "H": "rows", "W": "columns"}[letter]
    guard = f"held out against fitting noise: {unit} {held[0] + 1} to {held[1]} of {a.shape[axis]}"
    remarks = ("trained from A to B and from B to A", guard, *_warning(a, b, view))
    where = f"{a.place} and {b.place}"
    held_out = _both_ways(_part(a, axis, *held), _part(b, axis, *held), names)
    return Source(where, tuple(training), remarks=remarks), replace(held_out, where=where)


def _opened(pair: Noise2Noise, inputs: Sequence[TensorSpec], options: DataOptions) -> tuple[LazyArray, LazyArray, View]:
    """Opens both images, of which the first is returned as samples, too."""
    require_pairable(options)
    if len(inputs) != 2:
        taken = ", ".join(spec.name for spec in inputs if spec.name != TARGET)
        raise DataError(f"two noisy images train a model of one image; this one takes {taken}")
    a, b = open_array(pair.a), open_array(pair.b)
    _require_alike(a, b)
    (sample_set,) = match(_both_ways(a, b, [spec.name for spec in inputs], single=True), inputs, options)
    return a, b, sample_set.views[0]


def _require_alike(a: LazyArray, b: LazyArray) -> None:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise DataError(
            f"expected two images of the same study, of one shape and dtype; found {a.dtype} {list(a.shape)} ({a.place}) and "
            f"{b.dtype} {list(b.shape)} ({b.place})"
        )
    if all(np.array_equal(a.read(region), b.read(region)) for region in regions(a.shape, a.dtype.itemsize)):
        raise DataError(
            f"{a.place} and {b.place} are the same image, so their noise is the same; expected two with independent noise, "
            "such as from two halves of the events, divided before reconstruction"
        )


def _both_ways(a: LazyArray, b: LazyArray, names: Sequence[str], *, single: bool = False) -> Source:
    there, back = dict(zip(names, (a, b))), dict(zip(names, (b, a)))
    groups = (ArrayGroup("A to B", there), ArrayGroup("B to A", back))
    return Source(f"{a.place} and {b.place}", groups[:1] if single else groups)


def _choose(view: View, options: DataOptions, fraction: float) -> tuple[str, tuple[int, int]]:
    """Returns the axis along which a part is held out, and the part: from the middle, if enough is left on both sides."""
    sizes = dict(zip(view.source, view.stored.shape))
    space = [x for x in view.axes if x in SPACE]
    patch = dict(zip(space, along_axes(options.patch or (), len(space))))
    for letter in "NDHW":
        # The least that makes a sample or patch.
        least = patch.get(letter) if letter in view.axes else max(1, view.stack)
        if letter not in sizes or least is None:
            continue
        size, count = sizes[letter], max(least, round(fraction * sizes[letter]))
        start = (size - count) // 2
        if start < least:
            start = size - count
        if start >= least:
            return letter, (start, start + count)
    # Half of the longest axis leaves as much for either part.
    halves = {x: max(1, sizes[x] // 2) for x in view.axes if x in SPACE and x in sizes}
    smaller = "smaller patches" if options.patch else "patches"
    named = f"{smaller} (`patch={tuple(halves.values())}`)"
    hint = named if max(halves.values(), default=1) > 1 else "larger images"
    raise DataError(
        f"{view.stored.place} is too small for a part of it to be held out, without which nothing guards against fitting "
        "noise",
        remedy=f"train on {hint}, or take more slices or images",
    )


def _part(stored: LazyArray, axis: int, start: int, stop: int) -> LazyArray:
    """Returns a stretch of an array along one axis."""

    def read(region: Region) -> Array:
        inside = region[axis]
        moved = slice(inside.start + start, inside.stop + start)
        return stored.read((*region[:axis], moved, *region[axis + 1 :]))

    return replace(stored, shape=(*stored.shape[:axis], stop - start, *stored.shape[axis + 1 :]), read=read)


def _warning(a: LazyArray, b: LazyArray, view: View) -> tuple[str, ...]:
    found = noise_correlation(a, b, view.source)
    if found is None or abs(found) < _SUSPICIOUS:
        return ()
    return (
        f"warning: the finest detail of A and B correlates by {found:.2f}; if that is noise and not texture, it is not "
        "independent, and the network learns to keep it (images must be divided before reconstruction, never after)",
    )


def noise_correlation(a: LazyArray, b: LazyArray, layout: str) -> Optional[float]:
    """Returns how the finest detail of two images correlates, which is mostly noise: near 0 if that is independent.

    The second differences along W and H take away what is smooth. Of runs of a few pixels the median counts, so that edges,
    which both images have in common, do not.

    Args:
        a: an image.
        b: the other.
        layout: of both.

    Returns:
        In [-1, 1]; None if there is too little to tell.
    """
    plane = [axis for axis, letter in enumerate(layout) if letter in "HW"]
    others = [axis for axis in range(len(layout)) if axis not in plane]
    count = int(np.prod([a.shape[axis] for axis in others], dtype=np.int64))
    coefficients: list[Array] = []
    for index in np.unique(np.linspace(0, count - 1, min(count, _PLANES)).astype(int)):
        place = dict(zip(others, np.unravel_index(index, [a.shape[axis] for axis in others])))
        region = tuple(
            slice(int(place.get(x, 0)), int(place[x]) + 1 if x in place else a.shape[x]) for x in range(len(layout))
        )
        first, second = (_runs(stored.read(region).squeeze(tuple(others))) for stored in (a, b))
        spread = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
        told = spread > 0
        coefficients.append((first * second).sum(-1)[told] / spread[told])
    found = np.concatenate(coefficients) if coefficients else np.empty(0)
    return float(np.median(found)) if len(found) >= 8 else None


def _runs(plane: Array) -> Array:
    """Returns second differences along both axes of a plane, as runs of pixels along the last one."""
    rough = plane.astype(np.float64)
    for axis in range(rough.ndim):
        rough = np.diff(rough, 2, axis)
    rows = rough.reshape(-1, rough.shape[-1])
    runs: Array = rows[:, : rows.shape[1] // _RUN * _RUN].reshape(-1, _RUN)
    return runs
