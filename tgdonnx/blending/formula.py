"""What a number becomes at a blend A in [0, 1], in float64; whoever stores it rounds once.

Interpolated (Wortsman et al., CVPR 2022; Wang et al., CVPR 2019):  W = W0 + A (W1 - W0)
Scaled, for kernels that start at 0, which read reinitialised maps:    W = A W1

Both are exact at the ends: A = 1 gives W1 and A = 0 gives W0 or 0, to the bit. What did not move keeps its bits for every A.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError

Floats = NDArray[np.floating[Any]]


def require_blend(blend: float) -> None:
    """Checks a blend.

    Raises:
        DataError: it is not from 0 to 1.
    """
    if not (math.isfinite(blend) and 0 <= blend <= 1):
        raise DataError(f"expected a blend from 0 (what training started from) to 1 (what it came to), got {blend:g}")


def interpolated(start: Floats, trained: Floats, blend: float) -> NDArray[np.float64]:
    """Returns numbers on the line from where they started to where they came.

    Args:
        start: W0.
        trained: W1, finite, of the same shape.
        blend: A.
    """
    first, last = start.astype(np.float64), trained.astype(np.float64)
    if blend in (0, 1):
        return last if blend else first
    between: NDArray[np.float64] = first + blend * (last - first)
    return np.where(first == last, first, between)  # -0 + 0 would be 0


def scaled(trained: Floats, blend: float) -> NDArray[np.float64]:
    """Returns A times what was trained; at A = 0 that is 0 and never -0.

    Args:
        trained: W1, finite.
        blend: A.
    """
    last: NDArray[np.float64] = trained.astype(np.float64)
    return blend * last if blend else np.zeros_like(last)
