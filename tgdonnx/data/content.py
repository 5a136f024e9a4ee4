"""A look at all values before training, where that is quick: are files whole, numbers finite, targets in range.

Data that takes more than `EXAMINED_BYTES` is not read for that; then every batch is looked at when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

import numpy as np

from tgdonnx.data.matching import Member
from tgdonnx.data.scaling import Linear
from tgdonnx.data.stored import read_finite, regions
from tgdonnx.graphs.tensor_specs import TensorSpec

EXAMINED_BYTES = 2**30


def examine(members: Sequence[Member], inputs: Sequence[TensorSpec]) -> Optional[tuple[float, float]]:
    """Reads all values once.

    Returns:
        The smallest and the largest stored value of the last input; None if there is too much to read.

    Raises:
        DataError: a file cannot be read, or a value is not finite.
    """
    if nbytes(members) > EXAMINED_BYTES:
        return None
    low, high = np.inf, -np.inf
    for member in members:
        for spec, view in zip(inputs, member.views):
            for region in regions(view.stored.shape, view.stored.dtype.itemsize):
                values = read_finite(view.stored, region, spec.name)
                if spec is inputs[-1] and values.size:
                    low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def first_outside(
    members: Sequence[Member], name: str, linear: Optional[Linear], low: float, high: float
) -> Optional[str]:
    """Returns where the first value of the last input lies that is out of a range, and what it is; None if there is none.

    Args:
        members: the data.
        name: of the input.
        linear: how it is scaled; None if it is not.
        low: the least value.
        high: the largest.
    """
    for member in members:
        stored = member.views[-1].stored
        for region in regions(stored.shape, stored.dtype.itemsize):
            values = read_finite(stored, region, name)
            values = values if linear is None else linear.apply(values)
            outside = (values < low) | (values > high)
            if outside.any():
                at = np.argwhere(outside)[0]
                index = [int(i) + part.start for i, part in zip(at, region)]
                return f"{stored.place}: {name}{index} is {values[tuple(at)]:g}"
    return None


def nbytes(members: Iterable[Member]) -> int:
    """Returns what all arrays take in memory together."""
    return sum(view.stored.nbytes for member in members for view in member.views)
