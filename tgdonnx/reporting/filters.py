"""Which filters trained: per layer a strip of cells, one per filter, as paths of SVG in a box of (cells) by 10.

In a layer with many filters a cell stands for several, and is shaded by how many of their weights train; so is the cell of a
filter of which only single kernels train (mode ``readers``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgdonnx.masked_model import MaskedModel

MOST_CELLS = 256
SHADES = 4
HEIGHT = 10
APART_UP_TO = 128


@dataclass(frozen=True)
class Strip:
    """The filters of one layer.

    Attributes:
        node: the layer.
        op_type: its operator.
        weight: its weight; empty if that cannot be had.
        shape: of the weight in the vendor's file.
        filters: how many there are.
        whole: how many train whole.
        partly: of how many single kernels train.
        cells: how many cells the strip has.
        per_cell: how many filters a cell stands for, the last one perhaps for fewer.
        shades: paths of the cells, from those of which least trains to those of which all does; nothing trains in the
            others.
    """

    node: str
    op_type: str
    weight: str
    shape: tuple[int, ...]
    filters: int
    whole: int
    partly: int
    cells: int
    per_cell: int
    shades: tuple[str, ...]


def filter_strips(masked: MaskedModel) -> tuple[Strip, ...]:
    """Returns a strip per layer, in topological order."""
    strips = []
    for layer in masked.network.layers:
        name = layer.weight.name if layer.weight is not None else ""
        shape = layer.weight.shape if layer.weight is not None else ()
        strips.append(strip(layer.name, layer.op_type, name, tuple(shape), masked.fractions(layer)))
    return tuple(strips)


def strip(node: str, op_type: str, weight: str, shape: tuple[int, ...], fractions: NDArray[np.float64]) -> Strip:
    """Draws a strip.

    Args:
        node: the layer.
        op_type: its operator.
        weight: its weight.
        shape: of the weight.
        fractions: of shape (filters,), in [0, 1]: how much of each filter trains.
    """
    per_cell = -(-len(fractions) // MOST_CELLS)
    starts = np.arange(0, len(fractions), max(per_cell, 1))
    counts = np.diff(np.append(starts, len(fractions)))
    cells = np.add.reduceat(fractions, starts) / counts if len(fractions) else fractions
    # All of a cell trains: the darkest shade, and only then; nothing: none.
    levels = np.where(cells == 1, SHADES, np.minimum(np.ceil(cells * (SHADES - 1)), SHADES - 1)).astype(int)
    return Strip(
        node,
        op_type,
        weight,
        shape,
        len(fractions),
        int((fractions == 1).sum()),
        int(((fractions > 0) & (fractions < 1)).sum()),
        len(cells),
        per_cell,
        tuple(path_of_cells(levels == shade, apart=len(cells) <= APART_UP_TO) for shade in range(1, SHADES + 1)),
    )


def path_of_cells(chosen: NDArray[np.bool_], *, apart: bool) -> str:
    """Returns a path of cells; unless they are to be seen apart, neighbours are one piece."""
    if apart:
        return "".join(f"M{x} 0h1v{HEIGHT}h-1z" for x in np.flatnonzero(chosen))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    return "".join(f"M{a} 0h{b - a}v{HEIGHT}h{a - b}z" for a, b in zip(edges[::2], edges[1::2]))
