"""Origins: what a feature map was made from, and arrays of them.

The *origin* of an element of an activation is the set of filters it depends on, through operations without filters of
their own. Every activation carries an integer array of origin ids, one axis per axis of the activation; an axis of
length 1 means that the origin is the same all along it. A Conv output of shape (N, 64, H, W) carries an array of shape
(1, 64, 1, 1), so batch and spatial sizes need not be known, and Concat, Transpose, Slice and broadcasting are the same
operations on the small array. An activation of unknown rank carries a 0-d array: the same origin everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx import bounds

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
        return Origin.union((self, other))

    @staticmethod
    def union(origins: Sequence[Origin]) -> Origin:
        """Returns what was made from all of them; of several reasons the first."""
        return Origin(
            frozenset().union(*(origin.producers for origin in origins)),
            frozenset().union(*(origin.inputs for origin in origins)),
            next((origin.opaque for origin in origins if origin.opaque is not None), None),
        )


TOO_MANY = (
    f"more filters have a part in it than are told apart: {bounds.PRODUCERS:,} of all maps together, and "
    f"{bounds.FEW_PRODUCERS} of one"
)


class OriginTable:
    """Gives every distinct origin a small number, so that arrays of them are arrays of integers.

    Unions are remembered: along a residual trunk the same origins meet again and again.

    Attributes:
        constant: the id of what nothing has made.
        given_up: ids of origins whose filters are not in the list of everything that they have a part in, since that would be
            too long; what is made of them is opaque.
    """

    def __init__(self) -> None:
        self.given_up: set[int] = set()
        self._held = 0
        self._origins: list[Origin] = []
        self._ids: dict[Origin, int] = {}
        self._unions: dict[frozenset[int], int] = {}
        self.constant = np.array(self.add(Origin()), dtype=np.int64)

    def __getitem__(self, origin_id: int) -> Origin:
        return self._origins[origin_id]

    def add(self, origin: Origin) -> int:
        """Returns the id of ``origin``, a new one if it was not known."""
        if origin not in self._ids:
            self._held += len(origin.producers)
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
                size = len(self._origins)
                pairs, places = np.unique(left * size + right, return_inverse=True)
                unions = [self._union(frozenset(divmod(int(pair), size))) for pair in pairs]
                left = np.array(unions, np.int64)[places].reshape(left.shape)
            result = left
        return result

    def union_along(self, ids: OriginIds, axes: tuple[int, ...]) -> OriginIds:
        """Returns the union along ``axes``, which are kept with length 1."""
        long = tuple(axis for axis in axes if ids.shape[axis] != 1)
        if not long:
            return ids
        kept = tuple(1 if axis in long else length for axis, length in enumerate(ids.shape))
        others = [axis for axis in range(ids.ndim) if axis not in long]
        rows = ids.transpose(*others, *long).reshape(math.prod(kept), -1)
        return np.array([self._union(frozenset(row.tolist())) for row in rows], np.int64).reshape(kept)

    def _union(self, ids: frozenset[int]) -> int:
        if len(ids) == 1:
            return next(iter(ids))
        if ids not in self._unions:
            self._unions[ids] = self.add(self._united([self._origins[i] for i in sorted(ids)], ids))
        return self._unions[ids]

    def _united(self, origins: Sequence[Origin], ids: frozenset[int]) -> Origin:
        count = sum(len(origin.producers) for origin in origins)
        if count <= bounds.FEW_PRODUCERS or self._held + count <= bounds.PRODUCERS:
            return Origin.union(origins)
        self.given_up |= ids
        rest = Origin.union([replace(origin, producers=frozenset()) for origin in origins])
        return replace(rest, opaque=rest.opaque or TOO_MANY)
