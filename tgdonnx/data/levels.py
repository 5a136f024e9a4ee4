"""Inputs without an axis of samples, such as a noise level: a batch has one value of them.

A value is given once, in the very shape of the input, or as a single number where the input holds one; then it is the same
in all batches. Or it is given once per sample. Values that differ between samples can only be fed one sample at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Optional

import numpy as np

from tgdonnx.data.layouts import View, plain_axes
from tgdonnx.data.lazy_arrays import Array, LazyArray
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec


def level_view(stored: LazyArray, spec: TensorSpec, count: int) -> Optional[View]:
    """Returns an array as values of an input without an axis of samples; None if it is neither one nor one per sample.

    Args:
        stored: the array.
        spec: the input; its rank is known.
        count: samples of the other inputs.
    """
    assert spec.shape is not None
    if _holds_one(stored.shape, spec.shape):
        axes = plain_axes(len(stored.shape))
        return View(stored, axes, axes, 0, 0, stored.shape)
    rest = stored.shape[1:]
    without_axis = spec.shape[:1] == (1,) and _agree(rest, spec.shape[1:])
    if stored.shape[:1] == (count,) and (without_axis or _holds_one(rest, spec.shape)):
        axes = f"N{plain_axes(len(rest))}"
        return View(stored, axes, axes, 0, count, rest)
    return None


def _holds_one(found: Sequence[int], shape: Sequence[Optional[int]]) -> bool:
    single = prod(found) == 1 and all(size in (1, None) for size in shape)
    return single or _agree(found, shape)


def _agree(found: Sequence[int], shape: Sequence[Optional[int]]) -> bool:
    return len(found) == len(shape) and all(want in (None, size) for size, want in zip(found, shape))


def shaped(values: Array, spec: TensorSpec) -> Array:
    """Returns a value in the shape of its input."""
    assert spec.shape is not None
    if _agree(values.shape, spec.shape):
        return values
    given = iter(values.shape[values.ndim - len(spec.shape) + 1 :] if values.size > 1 else ())
    return values.reshape([1 if place == 0 or values.size == 1 else next(given) for place in range(len(spec.shape))])


def common_level(views: Sequence[View], name: str) -> Optional[Array]:
    """Returns the stored value that all samples of all groups have; None if they differ.

    Args:
        views: of an input, one per group.
        name: of the input, for messages.

    Raises:
        DataError: a file cannot be read, or a value is not finite.
    """
    common: Optional[Array] = None
    for view in views:
        for level in _levels(view, name):
            if common is None:
                common = level
            elif not np.array_equal(common.ravel(), level.ravel()):
                return None
    return common


def _levels(view: View, name: str) -> Iterator[Array]:
    for index in range(view.count if view.counts_samples else 1):
        yield view.read(index, name)


def converted(values: Array, spec: TensorSpec, place: str) -> Array:
    """Returns a value in the dtype of its input.

    Raises:
        DataError: that would change it by more than rounding.
    """
    if values.dtype == spec.dtype:
        return values
    with np.errstate(over="ignore"):  # infinity is looked for
        cast = values.astype(spec.dtype)
    if not (np.isfinite(cast).all() if cast.dtype.kind == "f" else np.array_equal(cast, values)):
        raise DataError(f"{place}: {spec.name!r} is {values.tolist()}, which {spec.dtype} cannot hold")
    return cast


def one_by_one(name: str) -> DataError:
    """Returns the error that says that samples with values of their own cannot share a batch."""
    return DataError(
        f"{name!r} has no axis of samples in the model: a batch has one value of it, and in the data it differs between "
        "samples",
        remedy="pass `batch=1` (with `accumulate=8`, a step is of 8 samples all the same), or one value for all",
    )
