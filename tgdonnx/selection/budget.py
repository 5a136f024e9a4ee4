"""A budget: as many filters, those of the highest values first, as hold a fraction of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import SelectionError
from tgdonnx.layers import Layer

Budget = Annotated[float, msgspec.Meta(gt=0, le=1)]
"""A fraction of the weights, as it is recorded."""


def require_fraction(fraction: float) -> None:
    """Checks that a fraction of the weights is above 0 and at most 1.

    Raises:
        SelectionError: it is not.
    """
    if not 0 < fraction <= 1:
        raise SelectionError(f"expected a fraction of the weights above 0 and at most 1, got {fraction:g}")


def weights_per_filter(layer: Layer) -> int:
    """Returns how many weights each filter of a layer has."""
    assert layer.weight is not None
    return int(np.prod(layer.weight.shape)) // layer.filters


def require_within(filters: Mapping[str, Sequence[int]], layers: Sequence[Layer], fraction: float) -> None:
    """Checks that filters hold no more than a fraction of the weights of layers.

    Args:
        filters: for names of weights rows of theirs.
        layers: all that there are.
        fraction: above 0 and at most 1.

    Raises:
        SelectionError: they hold more.
    """
    stored = {layer.weight.name: layer for layer in layers if layer.weight}
    total = sum(layer.filters * weights_per_filter(layer) for layer in stored.values())
    held = sum(len({*rows}) * weights_per_filter(stored[name]) for name, rows in filters.items())
    if held > _most(fraction, total):
        raise SelectionError(
            f"the filters that are listed hold {held:,} of the {total:,} weights ({held / total:.3g}), more than the fraction "
            f"{fraction:g} that was asked for"
        )


def _most(fraction: float, weights: int) -> float:
    """Returns how many weights a fraction is; with the last bits of what was written as decimals to spare."""
    return fraction * weights * (1 + 1e-9)


def largest(
    values: Mapping[str, NDArray[np.float64]], weights: Mapping[str, int], fraction: float
) -> dict[str, list[int]]:
    """Returns the filters of the highest values that together hold at most a fraction of the weights.

    The first that does not fit ends it; of equal values the filter that comes first is taken first. So the choice depends on
    nothing but the order of the values, and any two orders give the same number of weights, to within one filter.

    Args:
        values: for names of weights one number per filter, of shape (filters,).
        weights: for the same names how many weights a filter has.
        fraction: of all these weights, above 0 and at most 1.

    Returns:
        For names of weights the rows of their filters, ascending.

    Raises:
        SelectionError: the filter of the highest value alone holds more.
    """
    owners = [(name, row) for name, each in values.items() for row in range(len(each))]
    order = np.argsort(-np.concatenate(list(values.values())), kind="stable")
    held = np.cumsum([weights[owners[place][0]] for place in order])
    count = int(np.searchsorted(held, _most(fraction, int(held[-1])), side="right"))
    if not count:
        name, row = owners[order[0]]
        share = held[0] / held[-1]
        raise SelectionError(
            f"the first filter to select, {row} of {name!r}, alone holds {share:.3g} of the weights, more than the fraction "
            f"{fraction:g} that was asked for",
            remedy=f"ask for a fraction of at least {math.ceil(share * 1e4) / 1e4:g}",  # rounded up
        )
    chosen: dict[str, list[int]] = {}
    for place in sorted(order[:count].tolist()):
        name, row = owners[place]
        chosen.setdefault(name, []).append(row)
    return chosen
