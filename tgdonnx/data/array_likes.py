"""Arrays of any library as arrays of numpy, by what they offer: ``__array__`` or DLPack. None of the libraries is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Union, runtime_checkable

import numpy as np
from numpy import typing

from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError


@runtime_checkable
class OfDlpack(Protocol):
    """What hands its memory over as DLPack says, such as a tensor of PyTorch, JAX or CuPy."""

    def __dlpack__(self, *, stream: Any = None) -> Any:
        """Returns a capsule."""


@runtime_checkable
class OfNumpy(Protocol):
    """What makes an array of numpy of itself."""

    def __array__(self) -> Array:
        """Returns the array."""


ArrayLike = Union[typing.ArrayLike, OfNumpy, OfDlpack]
Batch = Union[Mapping[str, ArrayLike], Sequence[ArrayLike], ArrayLike]
"""Samples of all arrays, by name, or in the order of the model's inputs and the target; or of the only array."""


def as_array(value: ArrayLike, what: str) -> Array:
    """Returns an array of numpy, without a copy where it lies in memory.

    Args:
        value: an array of any library, or numbers.
        what: what messages call it.

    Raises:
        DataError: it is no array of values, lies where the processor cannot read it, or has values that are masked out.
    """
    try:
        offers_more = isinstance(value, OfDlpack) and not isinstance(value, OfNumpy)
        array = np.asanyarray(np.from_dlpack(value) if offers_more else value)  # type: ignore[arg-type]
    except Exception as error:  # every library raises its own
        raise DataError(
            f"{what}: {type(value).__name__} gives no array of numpy: {error}",
            remedy="bring it to the memory of the processor first, as an array of numpy",
        ) from error
    if array.dtype.hasobject:
        raise DataError(f"{what} holds Python objects, not numbers", remedy="leave it out, or give an array of numbers")
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise DataError(
                f"{what} has values that are masked out", remedy="fill them in, or give weights of the loss"
            )
        array = array.data
    return array


def is_array(value: object) -> bool:
    """Whether something is one array, and not a collection of them."""
    return isinstance(value, (OfNumpy, OfDlpack))
