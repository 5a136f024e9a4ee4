"""Arrays and loaders that are like those of other libraries, as far as we look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tests.support.models import Array


class Tensor:
    """Like a tensor on the processor: ``__array__``, and nothing else of numpy."""

    def __init__(self, values: Array, why_not: str = "") -> None:
        self._values, self._why_not = values, why_not

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        if self._why_not:
            raise TypeError(self._why_not)
        return self._values if dtype is None else self._values.astype(dtype)


class Capsule:
    """What only has DLPack."""

    def __init__(self, values: Array) -> None:
        self._values = values

    def __dlpack__(self, **_: Any) -> Any:
        return self._values.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()


class Loader:
    """Like a DataLoader that shuffles: another order each time, and it fills the same memory for every batch."""

    def __init__(self, arrays: Sequence[Array], size: int) -> None:
        self._arrays, self._size, self.passes = arrays, size, 0

    def __len__(self) -> int:
        return -(-len(self._arrays[0]) // self._size)

    def __iter__(self) -> Iterator[list[Tensor]]:
        self.passes += 1
        order = np.random.default_rng(self.passes).permutation(len(self._arrays[0]))
        filled = [np.empty_like(array[: self._size]) for array in self._arrays]
        for first in range(0, len(order), self._size):
            places = order[first : first + self._size]
            for memory, array in zip(filled, self._arrays):
                memory[: len(places)] = array[places]
            yield [Tensor(memory[: len(places)]) for memory in filled]


def in_batches(arrays: dict[str, Array], *sizes: int) -> list[dict[str, Array]]:
    """Arrays cut into batches of some sizes."""
    ends = np.cumsum(sizes)[:-1]
    return [dict(zip(arrays, parts)) for parts in zip(*(np.split(array, ends) for array in arrays.values()))]
