"""The border that outputs lack, as those of valid convolutions do: by how many pixels their targets are larger.

A target is cut only where it is known which part of it an output shows: it is as large as an input, the output lacks as much
at every size, also where an input is continued beyond its border, and the border is the same on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest
from tgdonnx.data import Dataset
from tgdonnx.data.layouts import SPACE
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import count_inputs

Array = NDArray[Any]
Predict = Callable[[Sequence[Array]], Sequence[Array]]
_FURTHER = 16
"""Pixels by which an input is continued; more than most networks divide a size by, so that these are told from valid ones."""


def border_of(manifest: Manifest, dataset: Dataset, predict: Predict) -> tuple[int, ...]:
    """Returns by how many pixels targets are larger than outputs, per axis of space; samples of every size are tried.

    Args:
        manifest: of the artifacts.
        dataset: with targets of the inputs' size.
        predict: gives the outputs for inputs, arrays with an axis of samples.

    Raises:
        DataError: targets are not of an input's size, or smaller than outputs, or differ from them in other axes; the border
            differs between sizes or is odd; outputs are no part of the input but a smaller picture of it.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    count = count_inputs(manifest.inputs)
    for sample in dataset.first_of_each_size():
        fed = [np.repeat(array, manifest.fixed_batch or 1, 0) for array in sample[:count]]
        grown = _grown(manifest, dataset, predict, fed)
        for index, (head, output) in enumerate(zip(manifest.heads, predict(fed))):
            place = manifest.place_of(head)
            expected, shape = head.target_shape(output.shape)[1:], sample[place].shape[1:]
            less, axes = [size - wanted for size, wanted in zip(shape, expected)], dataset.axes_of(place)
            if len(shape) != len(expected) or min(less) < 0 or any(n for n, x in zip(less, axes) if x not in SPACE):
                raise DataError(
                    f"only the centre of {head.target!r} can be cut: expected at least {list(expected)}, found {list(shape)} "
                    "per sample"
                )
            if not may_be_cut(dataset, place, [*fed, *sample[count:]], (1, *expected)):
                raise DataError(
                    f"targets {head.target!r} are of the shape {list(shape)}, neither of an input's size nor of the output's, "
                    f"{list(expected)}, so it is not known which part of them the output shows",
                    remedy="give targets of one of these sizes",
                )
            sizes = [n for n, x in zip(less, axes) if x in SPACE]
            if any(n % 2 for n in sizes):
                raise DataError(
                    f"outputs lack {'x'.join(map(str, sizes))} pixels of {head.target!r}, an odd number, so there is no centre",
                    remedy="give targets of the output's size",
                )
            if grown and any(n != _FURTHER for n in _growth(dataset, place, output, grown[index])):
                raise DataError(
                    f"the output is no part of the input but another picture of it: {_FURTHER} pixels more of the input change "
                    f"it from {list(output.shape)} to {list(grown[index].shape)}",
                    remedy="give targets of the output's size",
                )
            found.setdefault(tuple(sizes), list(shape))
    if len(found) > 1:
        said = "; ".join(f"{shape}: {'x'.join(map(str, less))}" for less, shape in found.items())
        raise DataError(
            f"the border that outputs lack differs between sizes of targets ({said})",
            remedy="train on patches (`patch`), which have one size",
        )
    return next(iter(found))


def may_be_cut(dataset: Dataset, place: int, batch: Sequence[Array], expected: Sequence[int]) -> bool:
    """Whether targets are larger than outputs, or as large, along axes of space alone, and as large as an input.

    Args:
        dataset: what they are of.
        place: of the target in a batch.
        batch: arrays with an axis of samples.
        expected: the shape that the target is to have, with that axis.
    """
    found, axes = batch[place].shape[1:], dataset.axes_of(place)
    if len(found) != len(expected) - 1:
        return False
    pairs = list(zip(axes, found, expected[1:]))
    if any(size < wanted or (size > wanted and letter not in SPACE) for letter, size, wanted in pairs):
        return False
    space = [size for letter, size in zip(axes, found) if letter in SPACE]
    images = [
        _space(dataset, each, batch[each].shape[1:]) for each, spec in enumerate(dataset.inputs) if spec.role == "input"
    ]
    return space in images or all(size == wanted for _, size, wanted in pairs)


def _space(dataset: Dataset, place: int, shape: Sequence[int]) -> list[int]:
    return [size for letter, size in zip(dataset.axes_of(place), shape) if letter in SPACE]


def _growth(dataset: Dataset, place: int, output: Array, grown: Array) -> list[int]:
    """Returns by how much an output of a target has grown, per axis of space, which are its last."""
    rank = sum(letter in SPACE for letter in dataset.axes_of(place))
    return [after - before for before, after in zip(output.shape[-rank:], grown.shape[-rank:])]


def _grown(manifest: Manifest, dataset: Dataset, predict: Predict, fed: Sequence[Array]) -> Sequence[Array]:
    """Returns the outputs for inputs that are continued beyond their border; none where the model fixes their size."""
    larger = []
    for place, (spec, array) in enumerate(zip(manifest.inputs, fed)):
        axes = dataset.axes_of(place)
        free = [letter in SPACE for letter in axes]
        fixed = spec.shape is not None and any(
            size is not None for size, is_space in zip(spec.shape[1:], free) if is_space
        )
        if fixed:
            return ()
        larger.append(np.pad(array, [(0, 0), *((0, _FURTHER if is_space else 0) for is_space in free)], "edge"))
    try:
        return predict(larger)
    except DataError:  # a size that the model does not take tells nothing
        return ()
