"""A budget: as many filters, those of the highest values first, as hold a fraction of the weights."""

from __future__ import annotations

from collections.abc import Mapping
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


def largest(
    values: Mapping[str, NDArray[np.float64]], weights: Mapping[str, int], fraction: float
) -> dict[str, list[int]]:
    """Returns the filters of the highest values that together hold at most a fraction of the weights, but at least one.

    The first that does not fit ends it; of equal values the filter that comes first is taken first. So the choice depends on
    nothing but the order of the values, and any two orders give the same number of weights, to within one filter.

    Args:
        values: for names of weights one number per filter, of shape (filters,).
        weights: for the same names how many weights a filter has.
        fraction: of all these weights, above 0 and at most 1.

    Returns:
        For names of weights the rows of their filters, ascending.
    """
    owners = [(name, row) for name, each in values.items() for row in range(len(each))]
    order = np.argsort(-np.concatenate(list(values.values())), kind="stable")
    held = np.cumsum([weights[owners[place][0]] for place in order])
    count = max(1, int(np.searchsorted(held, fraction * held[-1] * (1 + 1e-9), side="right")))
    chosen: dict[str, list[int]] = {}
    for place in sorted(order[:count].tolist()):
        name, row = owners[place]
        chosen.setdefault(name, []).append(row)
    return chosen
