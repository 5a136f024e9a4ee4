"""A retrain mask as an array, and as the filters and maps that train: two forms of the same thing.

With filters F and released maps R, the mask of the weight of a layer with G groups is

    M[m, c] = 1  if m in F, or map g(m) * C / G + c in R,    where g(m) is the group of filter m

of shape ``(M, C / G, 1, ...)``; where no map is released every column is the same, and one is stored: ``(M, 1, 1, ...)``.
A tensor with one number per filter has the mask ``M[m] = 1 if m in F``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mask_array(
    shape: Sequence[int], group: int, filters: NDArray[np.bool_], maps: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Returns the retrain mask of a tensor as an array.

    Args:
        shape: of the tensor.
        group: the number of groups of the layer; 1 for a tensor with one number per filter.
        filters: bool of shape (filters,): True for filters that train whole.
        maps: bool of shape (maps,): True for released input maps; of length 0 for masks per filter.

    Returns:
        float32, 0 or 1, of a shape that broadcasts against ``shape``.
    """
    trains = filters.reshape(-1, *(1,) * (len(shape) - 1))
    if maps.size:
        columns = np.repeat(maps.reshape(group, -1), len(filters) // group, axis=0)
        trains = trains | columns.reshape(*columns.shape, *(1,) * (len(shape) - 2))
    return trains.astype(np.float32)


def mask_parts(values: NDArray[np.float32], group: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the filters that train whole, and the released maps: those whose kernels train in every filter.

    Args:
        values: a retrain mask.
        group: the number of groups of the layer.
    """
    rows = values.reshape(values.shape[0], -1)
    whole = rows.all(axis=1)
    per_group = rows.reshape(group, rows.shape[0] // group, -1)
    released = per_group.all(axis=1).reshape(-1) if values.ndim > 1 and values.shape[1] > 1 else np.zeros(0, bool)
    return tuple(int(i) for i in np.flatnonzero(whole)), tuple(int(i) for i in np.flatnonzero(released))
