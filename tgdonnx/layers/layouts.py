"""Layouts: where in a layer's weight its filters and kernels are.

Every layout maps the weight as the node reads it to the same form, ``(filters, maps of a group, *kernel)``, and a mask or
an index of that form back to a form that broadcasts against the weight.

    Conv            (M, C / G, *kernel)                    as it is
    ConvTranspose   (C, M / G, *kernel)                    per group, filters and maps change places
    Gemm, MatMul    (K, N), or (N, K) with transB          N filters; K = C * L, L elements of each map in a row
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Layout(Protocol):
    """Where filters and kernels are in a weight of one operator.

    Attributes:
        group: the number of groups.
    """

    @property
    def group(self) -> int:
        """The number of groups."""

    def kernels(self, weight: Array) -> Array:
        """Returns a weight as ``(filters, maps of a group, *kernel)``."""

    def restore(self, kernels: Array) -> Array:
        """Returns an array of shape ``(filters, maps of a group or 1)`` so that it broadcasts against the weight."""


@dataclass(frozen=True)
class ConvLayout:
    """The weight of a Conv of any rank."""

    rank: int
    group: int

    def kernels(self, weight: Array) -> Array:
        """Returns the weight as it is."""
        return weight

    def restore(self, kernels: Array) -> Array:
        """Adds the axes of the kernel."""
        return np.expand_dims(kernels, tuple(range(2, self.rank)))


@dataclass(frozen=True)
class ConvTransposeLayout:
    """The weight of a ConvTranspose of any rank."""

    shape: tuple[int, ...]
    group: int

    def kernels(self, weight: Array) -> Array:
        """Exchanges filters and maps within each group."""
        maps, filters, *kernel = weight.shape
        grouped = weight.reshape(self.group, maps // self.group, filters, *kernel).swapaxes(1, 2)
        kernels: Array = grouped.reshape(self.group * filters, maps // self.group, *kernel)
        return kernels

    def restore(self, kernels: Array) -> Array:
        """Undoes `kernels` and adds the axes of the kernel."""
        ones = (1,) * (len(self.shape) - 2)
        grouped = kernels.reshape(self.group, -1, kernels.shape[1]).swapaxes(1, 2)
        if self.group > 1:  # the rows of different groups differ, so they are written out
            maps = self.shape[0] // self.group
            grouped = np.broadcast_to(grouped, (self.group, maps, grouped.shape[2]))
        restored: Array = grouped.reshape(-1, grouped.shape[2], *ones)
        return restored


@dataclass(frozen=True)
class MatrixLayout:
    """The weight of a Gemm or MatMul that reads maps of ``length`` elements each, one after the other.

    Attributes:
        filters_first: whether filters are rows (Gemm with transB), not columns.
        length: elements of each map.
    """

    filters_first: bool
    length: int
    group: int = 1

    def kernels(self, weight: Array) -> Array:
        """Returns filters as rows, cut into maps."""
        rows = weight if self.filters_first else weight.T
        return rows.reshape(rows.shape[0], -1, self.length)

    def restore(self, kernels: Array) -> Array:
        """Repeats each map's entry for its elements."""
        columns = np.repeat(kernels, self.length, axis=1) if kernels.shape[1] > 1 else kernels
        return columns if self.filters_first else columns.T
