"""KSE by TGD.md word for word, in plain Python floats."""

from __future__ import annotations

import math

from tests.support.models import Array


def reference_entropy(kernels: list[list[float]], k: int) -> float:
    sums = []
    for i, kernel in enumerate(kernels):
        distances = sorted(math.dist(kernel, other) for j, other in enumerate(kernels) if j != i)
        sums.append(math.fsum(distances[:k]))
    total = math.fsum(sums)
    if total == 0:
        return 0.0
    shares = [x / total for x in sums]
    return -math.fsum(p * math.log2(p) for p in shares if p > 0)


def reference_min_max(values: list[float]) -> list[float] | None:
    low, high = min(values), max(values)
    if high - low <= 1e-9 * high:
        return None
    return [(x - low) / (high - low) for x in values]


def reference(weight: Array, *, group: int = 1, alpha: float = 1.0, k: int = 5) -> tuple[list[float], ...]:
    filters = weight.shape[0] // group
    sparsity, entropy = [], []
    for g in range(group):
        for c in range(weight.shape[1]):
            kernels = [[float(x) for x in weight[g * filters + n, c].flatten()] for n in range(filters)]
            sparsity.append(math.fsum(abs(x) for kernel in kernels for x in kernel))
            entropy.append(reference_entropy(kernels, k))
    s, e = reference_min_max(sparsity), reference_min_max(entropy)
    if s is None:
        return sparsity, entropy, [1.0] * len(sparsity)
    raw = [math.sqrt(x / (1 + alpha * y)) for x, y in zip(s, e or [0.0] * len(s))]
    return sparsity, entropy, [(x - min(raw)) / (max(raw) - min(raw)) for x in raw]
