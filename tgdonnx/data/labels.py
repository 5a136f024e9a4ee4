"""Targets of cross-entropy: class indices, int64, however they are stored.

What is taken for what it obviously is, with a remark:

- whole numbers of any width, booleans, and floats that are whole numbers: the indices;
- with an axis of size 1 where the output has its classes, or as the last: without it;
- one-hot along that axis, or along the last: the place of the 1.

Everything else stays as it is, and is refused where it does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

import numpy as np

from tgdonnx.data.lazy_arrays import BLOCK_BYTES, Array, LazyArray, Region, read_finite
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

_INT64 = np.dtype(np.int64)


def as_labels(stored: LazyArray, spec: TensorSpec, said: Optional[str]) -> tuple[LazyArray, Optional[str]]:
    """Returns an array as class indices, where it holds such, and its layout; both unchanged where not.

    Args:
        stored: the array; its values are looked at, at most those of the first sample, if it may be one-hot.
        spec: the target.
        said: the layout that the user says, perhaps that of the images; indices have no C.

    Raises:
        DataError: it cannot be read. When it is read later: a value is no whole number, or a sample not one-hot.
    """
    if not spec.takes_labels or stored.dtype.kind not in "biuf":
        return stored, said
    rank, axes = len(stored.shape), (said or "").partition(":")[0]
    if "C" in axes:
        candidates = [axes.index("C")] if len(axes) == rank else []
        said = (said or "").replace("C", "")
    # An array of a format with axes of its own, such as a picture, is brought to the model's by its layout.
    elif said or stored.layout is not None or spec.shape is None or rank != len(spec.shape) + 1 or rank < 2:
        candidates = []
    else:
        candidates = [axis for axis in dict.fromkeys((1, rank - 1)) if _fits(stored.shape, axis, spec.shape)]
    for axis in candidates:
        if stored.shape[axis] == 1:
            return _whole_numbers(_without(stored, axis, spec.name), spec.name), said
    for axis in candidates:
        if spec.classes in (None, stored.shape[axis]) and _starts_one_hot(stored, axis, spec.name):
            return _from_one_hot(stored, axis, spec.name), said
    return _whole_numbers(stored, spec.name), said


def labels_hint(shape: tuple[int, ...], spec: TensorSpec) -> str:
    """Returns what is said of an array of a shape that labels do not have: what might be meant, and what would help."""
    wanted, classes = spec.shape, spec.classes
    if wanted is not None and classes is not None and len(wanted) > 1 and len(shape) == len(wanted):
        # What the output is: with its classes where they are counted, and where they may be instead.
        for axis, other, rest in ((1, -1, wanted[1:-1]), (-1, 1, wanted[2:])):
            meant = (classes, *rest) if axis == 1 else (*rest, classes)
            if all(want in (None, size) for want, size in zip(meant, shape[1:])):
                return (
                    f"it would fit if axis {other} of the output counted its classes: then say so, as in "
                    f"`loss='ce(axis={other})'`"
                )
    if wanted is not None and classes is not None and len(shape) == len(wanted) + 1:
        found = [shape[axis] for axis in (1, len(shape) - 1) if _fits(shape, axis, wanted)]
        if found and classes not in found:
            return (
                f"one-hot, it would have {found[0]} classes, and the model has {classes}, to which none can be added: bring it "
                f"to {classes}, or build with `loss='mse'` or `loss='l1'` to train on values"
            )
    one_hot = f", or one-hot with {classes} classes" if classes is not None else ""
    return f"the loss takes class indices{one_hot}: build with `loss='mse'` or `loss='l1'` to train on values"


def _fits(shape: tuple[int, ...], axis: int, wanted: Sequence[Optional[int]]) -> bool:
    rest = shape[1:axis] + shape[axis + 1 :]
    return all(want is None or want == size for want, size in zip(wanted[1:], rest))


def _starts_one_hot(stored: LazyArray, axis: int, name: str) -> bool:
    """Whether the first index of the first axis other than the classes' is."""
    if 0 in stored.shape:
        return False
    counted = 0 if axis else 1
    first = tuple(slice(0, 1 if i == counted else size) for i, size in enumerate(stored.shape))
    return _is_one_hot(read_finite(stored, first, name), axis)


def _is_one_hot(values: Array, axis: int) -> bool:
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=axis, dtype=np.int64) == 1).all())


def _without(stored: LazyArray, axis: int, name: str) -> LazyArray:
    shape = stored.shape[:axis] + stored.shape[axis + 1 :]

    def read(region: Region) -> Array:
        values: Array = stored.read((*region[:axis], slice(0, 1), *region[axis:])).squeeze(axis)
        return values

    remark = f"{name}: stored {_text(stored.shape)}, its axis {axis} of size 1 left out"
    return replace(stored, shape=shape, read=read, remarks=(*stored.remarks, remark))


def _whole_numbers(stored: LazyArray, name: str) -> LazyArray:
    if stored.dtype == _INT64:
        return stored

    def read(region: Region) -> Array:
        values = read_finite(stored, region, name)
        if values.dtype.kind == "f":
            broken = values != np.rint(values)
            if broken.any():
                at = np.argwhere(broken)[0]
                index = [int(i) + part.start for i, part in zip(at, region)]
                raise DataError(
                    f"{stored.place}: {name}{index} is {values[tuple(at)]:g}; expected class indices, which are whole "
                    "numbers, for the loss ce: build with `loss='mse'` or `loss='l1'` to train on values"
                )
            values = np.clip(values.astype(np.float64), -(2.0**62), 2.0**62)
        # What int64 cannot hold is no class either; it stays out of range.
        if values.dtype == np.uint64:
            values = np.minimum(values, np.uint64(np.iinfo(_INT64).max))
        return values.astype(_INT64)

    remark = f"{name}: {stored.dtype} to int64, every value as it is"
    return replace(stored, dtype=_INT64, read=read, remarks=(*stored.remarks, remark))


def _from_one_hot(stored: LazyArray, axis: int, name: str) -> LazyArray:
    shape = stored.shape[:axis] + stored.shape[axis + 1 :]

    def read(region: Region) -> Array:
        found = np.empty([part.stop - part.start for part in region], _INT64)
        # All classes of a place are read for one index.
        step = max(1, BLOCK_BYTES // max(1, stored.dtype.itemsize * stored.shape[axis] * found[:1].size))
        for first in range(0, len(found), step):
            outer = slice(region[0].start + first, min(region[0].stop, region[0].start + first + step))
            inner = [outer, *region[1:]]
            inner.insert(axis, slice(0, stored.shape[axis]))
            values = read_finite(stored, tuple(inner), name)
            if not _is_one_hot(values, axis):
                raise DataError(
                    f"{stored.place}: {name}[{_first_other(values, axis, outer.start)}] is not one-hot along axis {axis}, "
                    "as the first sample is; expected one 1 and else 0, or class indices"
                )
            found[first : first + step] = values.argmax(axis)
        return found

    remark = f"{name}: one-hot along axis {axis}, taken as {stored.shape[axis]} class indices"
    return replace(stored, shape=shape, dtype=_INT64, read=read, remarks=(*stored.remarks, remark))


def _first_other(values: Array, axis: int, start: int) -> int:
    """Returns the first index of the first axis of labels at which values are not one-hot."""
    samples = np.moveaxis(values, axis, -1)
    return start + next(i for i, sample in enumerate(samples) if not _is_one_hot(sample, -1))


def _text(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
