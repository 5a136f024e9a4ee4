"""Origins: what a feature map was made from, and arrays of them.

The *origin* of an element of an activation is the set of filters it depends on, through operations without filters of
their own. Every activation carries an integer array of origin ids, one axis per axis of the activation; an axis of
length 1 means that the origin is the same all along it. A Conv output of shape (N, 64, H, W) carries an array of shape
(1, 64, 1, 1), so batch and spatial sizes need not be known, and Concat, Transpose, Slice and broadcasting are the same
operations on the small array. An activation of unknown rank carries a 0-d array: the same origin everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

OriginIds = NDArray[np.int64]
Producer = tuple[int, int]  # (index of the layer, filter)


@dataclass(frozen=True)
class Origin:
    """What an element was made from.

    Attributes:
        producers: the filters, as far as they are known.
        inputs: the model inputs that reach it without passing a layer.
        opaque: why more may have gone into it than is listed, or None.
    """

    producers: frozenset[Producer] = frozenset()
    inputs: frozenset[str] = frozenset()
    opaque: Optional[str] = None

    def __or__(self, other: Origin) -> Origin:
        return Origin(self.producers | other.producers, self.inputs | other.inputs, self.opaque or other.opaque)


class OriginTable:
    """Gives every distinct origin a small number, so that arrays of them are arrays of integers.

    Unions are remembered by pair: along a residual trunk the same pairs meet again and again.
    """

    def __init__(self) -> None:
        self._origins: list[Origin] = []
        self._ids: dict[Origin, int] = {}
        self._unions: dict[tuple[int, int], int] = {}
        self.constant = np.array(self.add(Origin()), dtype=np.int64)

    def __getitem__(self, origin_id: int) -> Origin:
        return self._origins[origin_id]

    def add(self, origin: Origin) -> int:
        """Returns the id of ``origin``, a new one if it was not known."""
        if origin not in self._ids:
            self._ids[origin] = len(self._origins)
            self._origins.append(origin)
        return self._ids[origin]

    def union(self, *ids: OriginIds) -> OriginIds:
        """Returns the union of origin arrays, element by element, under ONNX's (numpy's) broadcasting.

        Raises:
            ValueError: the arrays do not broadcast.
        """
        result = ids[0]
        for other in ids[1:]:
            left, right = np.broadcast_arrays(result, other)
            if not np.array_equal(left, right):
                left = np.array([self._union(a, b) for a, b in zip(left.flat, right.flat)], np.int64).reshape(
                    left.shape
                )
            result = left
        return result

    def union_along(self, ids: OriginIds, axes: tuple[int, ...]) -> OriginIds:
        """Returns the union along ``axes``, which are kept with length 1."""
        for axis in axes:
            slices = np.split(ids, ids.shape[axis], axis=axis)
            ids = self.union(*slices)
        return ids

    def _union(self, a: int, b: int) -> int:
        if a == b:
            return int(a)
        pair = (int(a), int(b)) if a < b else (int(b), int(a))
        if pair not in self._unions:
            self._unions[pair] = self.add(self._origins[a] | self._origins[b])
        return self._unions[pair]
