"""KSE: how much each input map of one layer matters, told from the layer's weights alone. Pure numpy, no ONNX.

The algebra (TGD.md, "KSE of the input maps of one layer"), for a map c and the N kernels W[n, c] that read it:

    sparsity  s_c = sum_n ||W[n, c]||_1
    dm_n          = sum of the Euclidean distances from W[n, c] to its k nearest among the other kernels of c
    entropy   e_c = -sum_n p_n log2 p_n,  p_n = dm_n / sum(dm),  0 log 0 = 0;  e_c = 0 if all dm are 0
    KSE_c         = sqrt(s_c / (1 + alpha * e_c))

s and e are min-max normalised over the layer before they enter KSE, and KSE is after. The source is Li et al.,
"Exploiting Kernel Sparsity and Entropy for Interpretable CNN Compression", CVPR 2019, arXiv 1812.04368, section 3.

Where the paper is silent: k is at most N - 1. Groups of a convolution have their own neighbours, and are normalised
together. Equal s over the layer makes every score 1, equal e counts as 0; "equal" allows for rounding (`_EQUAL`). KSE
itself cannot be constant once s is not: the map of least s has 0, that of most s at least 1 / sqrt(1 + alpha). So the
last min-max is a division by the largest.

We follow the paper's formula and not the authors' code, which reshapes where it must transpose and so mixes the input
maps (or scores filters, where N == C), crashes for N <= 5, and gives NaN for a map that is all zero.

How the neighbours are found. |a - b|^2 = |a|^2 + |b|^2 - 2 a.b makes the distances of all pairs one matrix product,
which is fast but cancels when a and b nearly agree. So the product only nominates the k nearest, their distances come
from the differences, and a bound on the product's rounding error tells whether a kernel left out could be nearer; the
few rows where it could are searched directly. Kernels of a single weight are points on a line: sorting does it all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import NonFiniteWeightError

__all__ = ["MapScores", "score_maps"]

Floats = NDArray[np.float64]

# Rounding moves s and e by about 1e-15 of themselves. Where they spread by less than 1e-9 over the layer, min-max would
# turn that noise into more than 1e-6, so they count as equal.
DEFAULT_ALPHA = 1.0
DEFAULT_K = 5
_EQUAL = 1e-9

# A kernel left out may be nearer than the k-th nearest taken by this fraction of its squared distance: a tie.
_TIE = 1e-10

# Pairs of kernels handled at once: 1 MB of float64. It should fit the cache, where argmin is four times as fast.
_BLOCK = 2**17

# Multiplications in one call of BLAS. OpenBLAS starts threads above this.
_BLAS_TILE = 2**18


@dataclass(frozen=True)
class MapScores:
    """Sparsity, entropy and KSE of the input maps of one layer.

    The arrays are float64 of shape (maps,), maps = group * weight.shape[1]. Map c of group g has index
    g * weight.shape[1] + c.

    Attributes:
        sparsity: s, the sum of the absolute weights that read the map, not normalised.
        entropy: e in bits, from 0 to log2(filters per group), not normalised.
        kse: The score, from 0 to 1 (most useful).
        notes: What is degenerate about this layer and what follows from it, in sentences. Empty for most layers.
    """

    sparsity: Floats
    entropy: Floats
    kse: Floats
    notes: tuple[str, ...]


def score_maps(weight: NDArray[Any], *, group: int = 1, alpha: float = DEFAULT_ALPHA, k: int = DEFAULT_K) -> MapScores:
    """Scores every input map of one layer by its kernel sparsity and entropy (Li et al. 2019, section 3).

    Args:
        weight: (out_channels, in_channels / group, *kernel) as in ONNX Conv. Any number of kernel axes, also none (the
            weight of a fully connected layer). Any float dtype up to float64, also bfloat16; computed in float64.
        group: Groups of the convolution.
        alpha: Weight of the entropy against the sparsity, >= 0.
        k: Number of nearest neighbours, >= 1; at most filters per group - 1 are used.

    Raises:
        NonFiniteWeightError: A weight is NaN or infinite.
        ValueError: Any other argument is not as described.

    A distance below 1e-150 of the largest weight of its map counts as 0. Only float64 weights can have one.

    >>> scores = score_maps(np.array([[[1.0, 0.0], [0.0, 0.1]], [[0.0, 2.0], [0.0, 0.1]]]))
    >>> scores.sparsity, scores.entropy, scores.kse
    (array([3. , 0.2]), array([1., 0.]), array([1., 0.]))
    """
    _check(weight, group, alpha, k)
    in_maps, filters = weight.shape[1], weight.shape[0] // group
    maps = group * in_maps
    by_map = weight.reshape(group, filters, in_maps, -1).swapaxes(1, 2)  # [group, map, filter, tap]
    taps = by_map.shape[-1]
    k = min(k, filters - 1)

    peak, scaled_sum, entropy = np.zeros((3, maps))
    step = max(1, _BLOCK // (filters * max(taps, k + 1 if taps == 1 else filters)))
    for start in range(0, maps, step):
        chunk = np.arange(start, min(start + step, maps))
        kernels = by_map[np.divmod(chunk, in_maps)].astype(np.float64)
        # Squares must not over- or underflow. A power of two changes no digit, and the entropy knows no scale.
        peak[chunk] = np.abs(kernels).max(axis=(1, 2))
        kernels = np.ldexp(kernels, -_exponent(peak[chunk])[:, None, None])
        scaled_sum[chunk] = np.abs(kernels).sum(axis=(1, 2))
        if k > 0:
            sums = _sums_on_a_line(kernels[:, :, 0], k) if taps == 1 else _sums_in_space(kernels, k)
            entropy[chunk] = _entropy(sums)

    with np.errstate(over="ignore"):  # float64 weights of 1e308 can add up to infinity; the scores do not use that sum
        sparsity = np.ldexp(scaled_sum, _exponent(peak))
    s = _min_max(np.ldexp(scaled_sum, _exponent(peak) - _exponent(peak.max())))
    if s is None:
        reason = "The layer has a single input map" if maps == 1 else "All input maps have the same sparsity"
        note = f"{reason}, so none can be told to matter less: every score is 1 (freeze)."
        return MapScores(sparsity, entropy, np.ones(maps), (note,))
    e = _min_max(entropy)
    if e is None:
        note = "All input maps have the same entropy, so the scores follow from sparsity alone."
        return MapScores(sparsity, entropy, np.sqrt(s), (note,))
    kse = np.sqrt(s) / np.sqrt(1.0 + alpha * e)
    return MapScores(sparsity, entropy, kse / kse.max(), ())


def _check(weight: NDArray[Any], group: int, alpha: float, k: int) -> None:
    if weight.ndim < 2 or weight.size == 0:
        raise ValueError(f"weight must have shape (out_channels, in_channels / group, *kernel); got {weight.shape}")
    if weight.dtype.kind in "biu" or not np.can_cast(weight.dtype, np.float64):
        raise ValueError(f"weight must have a float dtype up to float64; got {weight.dtype}")
    if group < 1 or weight.shape[0] % group:
        raise ValueError(f"group must divide out_channels; got group {group}, out_channels {weight.shape[0]}")
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"alpha must be finite and >= 0; got {alpha}")
    if k < 1:
        raise ValueError(f"k must be >= 1; got {k}")
    finite = np.isfinite(weight)
    if not finite.all():
        index = np.unravel_index(np.argmin(finite), weight.shape)
        where = ", ".join(str(i) for i in index)
        count = weight.size - np.count_nonzero(finite)
        raise NonFiniteWeightError(
            f"weight[{where}] is {weight[index]}; a score needs finite weights, but {count} of {weight.size} are not"
        )


def _exponent(x: Any) -> Any:
    """The integer e with x = m * 2**e, 0.5 <= m < 1; 0 for 0."""
    return np.frexp(x)[1]


def _min_max(x: Floats) -> Floats | None:
    """X >= 0, moved and stretched to [0, 1]; None if x is constant but for rounding."""
    low, high = x.min(), x.max()
    return None if high - low <= _EQUAL * high else (x - low) / (high - low)


def _entropy(sums: Floats) -> Floats:
    """Entropy in bits of the shares in each row of `sums` (maps, filters); 0 if the row is all zero."""
    ordered = np.sort(sums, axis=1)  # so that the order of the filters does not matter, to the last bit
    total = ordered.sum(axis=1, keepdims=True)
    p = np.divide(ordered, total, out=np.zeros_like(ordered), where=total > 0)
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    # The log of a share near 1 has lost its digits. Taken from the other shares, even a tiny entropy is exact.
    logs[:, -1] = np.log1p(-p[:, :-1].sum(axis=1)) / math.log(2)
    entropy: Floats = np.abs((p * logs).sum(axis=1))
    return entropy


def _sums_on_a_line(points: Floats, k: int) -> Floats:
    """Dm of each of `points` (maps, filters), in the order of the sorted points.

    The k nearest are the next a below and the next k - a above, for the a that makes the sum smallest.
    """
    points = np.sort(points, axis=1)
    filters = points.shape[1]
    padded = np.pad(points, ((0, 0), (k, k)), constant_values=((0, 0), (-np.inf, np.inf)))
    below, above = np.zeros(
        (2, k + 1, *points.shape)
    )  # the distances to the next a on a side, added up from the nearest
    for a in range(1, k + 1):
        np.add(below[a - 1], points - padded[:, k - a : k - a + filters], out=below[a])
        np.add(above[a - 1], padded[:, k + a : k + a + filters] - points, out=above[a])
    sums: Floats = (below + above[::-1]).min(axis=0)
    return sums


def _sums_in_space(kernels: Floats, k: int) -> Floats:
    """Dm of each of `kernels` (maps, filters, taps), as (maps, filters)."""
    maps, filters, taps = kernels.shape
    squares = np.einsum("mnt,mnt->mn", kernels, kernels)
    left = np.concatenate([-2.0 * kernels, np.ones((maps, filters, 1))], axis=2)
    right = np.concatenate([kernels, squares[:, :, None]], axis=2).swapaxes(1, 2)
    # Bounds the rounding error of the product for taps + 1 terms, with |b|^2 <= 2 |a|^2 + 2 |a - b|^2.
    slack = 4 * (taps + 4) * np.finfo(np.float64).eps * squares

    sums = np.empty((maps, filters))
    step = max(1, _BLOCK // (maps * max(filters, k * taps)))
    for start in range(0, filters, step):
        rows = np.arange(start, min(start + step, filters))
        product = _matrix_product(left[:, rows], right)  # |b|^2 - 2 a.b, that is |a - b|^2 - |a|^2
        product[:, rows - start, rows] = np.inf  # a kernel is no neighbour of itself
        near, least_left_out = _take_least(product, k)
        gaps = kernels[np.arange(maps)[:, None, None], near] - kernels[:, rows, None]
        nearest = np.einsum("mrkt,mrkt->mrk", gaps, gaps)
        sums[:, rows] = np.sqrt(nearest).sum(axis=2)

        bound = np.maximum(least_left_out + squares[:, rows] - slack[:, rows], 0.0)
        for m, r in np.argwhere(nearest.max(axis=2) * (1 - _TIE) > bound):
            sums[m, rows[r]] = _sum_of_one(kernels[m], rows[r], k)
    return sums


def _matrix_product(a: Floats, b: Floats) -> Floats:
    """A @ b for stacks of matrices, in tiles too small for BLAS to share between threads.

    Threads of OpenBLAS spin while they wait for one another: on a busy machine they made this 100 times slower.
    """
    out = np.empty((*a.shape[:-1], b.shape[-1]))
    side = max(1, math.isqrt(_BLAS_TILE // a.shape[-1]))
    for i in range(0, a.shape[-2], side):
        for j in range(0, b.shape[-1], side):
            np.matmul(a[:, i : i + side], b[:, :, j : j + side], out=out[:, i : i + side, j : j + side])
    return out


def _take_least(x: Floats, count: int) -> tuple[NDArray[np.intp], Floats]:
    """The indices of the `count` least along the last axis, and the least of the rest. Overwrites x.

    argmin is vectorised: a few passes of it take a third of the time of one argpartition.
    """
    flat, first = x.reshape(-1), np.arange(0, x.size, x.shape[-1]).reshape(x.shape[:-1])
    least = np.empty((*x.shape[:-1], count), dtype=np.intp)
    for i in range(count):
        least[..., i] = x.argmin(axis=-1)
        flat[first + least[..., i]] = np.inf
    return least, flat[first + x.argmin(axis=-1)]


def _sum_of_one(kernels: Floats, row: int, k: int) -> float:
    """Dm of one of the kernels (filters, taps) of a map, without the matrix product."""
    gaps = kernels - kernels[row]
    squares = np.einsum("nt,nt->n", gaps, gaps)
    squares[row] = np.inf
    return float(np.sqrt(np.partition(squares, k - 1)[:k]).sum())
