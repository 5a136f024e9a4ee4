"""A validation split by file, so that no patch of a validated picture is trained on; of every class a like share."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from tgdonnx.data.class_names import shown
from tgdonnx.data.sources import Source
from tgdonnx.errors import DataError


def split(source: Source, fraction: float, seed: int = 0) -> tuple[Source, Source]:
    """Divides the groups of a source.

    Where groups are of classes, each class gives its share, rounded so that all together are the fraction, and keeps one at
    least to train on.

    Args:
        source: at least two groups.
        fraction: of the groups that are for validation, rounded.
        seed: which ones; the same names and seed give the same split everywhere.

    Returns:
        What is for training and for validation; the latter says in its remarks what that is.

    Raises:
        DataError: there is one group only, or either part would be empty.
    """
    total = len(source.groups)
    if total == 1:
        kind, several = ("file", "files") if source.path is not None else ("batch", "batches")
        raise DataError(
            f"{source.where} is a single {kind}, and a split goes by {several}",
            remedy=f"give `validation`, or the data as several {several}",
        )
    quotas = {"": round(total * fraction)} if not source.strata else _quotas(Counter(source.strata), fraction)
    held_out = sum(quotas.values())
    if not held_out or held_out == total:
        empty = "validation" if not held_out else "training"
        why = ", since each class keeps one at least to train on" if source.strata and not held_out else ""
        raise DataError(f"a validation split of {fraction:g} of {total} files leaves none for {empty}{why}")
    strata, left = source.strata or ("",) * total, dict(quotas)
    chosen = set()
    for index in np.random.default_rng([seed]).permutation(total).tolist():
        if left[strata[index]]:
            left[strata[index]] -= 1
            chosen.add(index)

    def part(*, validating: bool) -> Source:
        places = [index for index in range(total) if (index in chosen) == validating]
        kept = tuple(source.strata[index] for index in places) if source.strata else ()
        return replace(source, groups=tuple(source.groups[index] for index in places), strata=kept)

    validation = part(validating=True)
    said = f"held out for validation: {shown([group.name for group in validation.groups])}"
    if source.strata:
        counts = Counter(source.strata)
        said += f"; of each class: {shown([f'{name} {quotas[name]} of {count}' for name, count in counts.items()])}"
    return part(validating=False), replace(validation, remarks=(said,), problems=())


def _quotas(counts: Counter[str], fraction: float) -> dict[str, int]:
    """Returns how many of each class are held out: the largest remainders are rounded up, as far as all together are."""
    shares = {name: count * fraction for name, count in counts.items()}
    quotas = {name: min(int(share), counts[name] - 1) for name, share in shares.items()}
    missing = round(sum(counts.values()) * fraction) - sum(quotas.values())
    for name in sorted(counts, key=lambda name: (int(shares[name]) - shares[name], name)):
        if missing > 0 and quotas[name] < counts[name] - 1:
            quotas[name] += 1
            missing -= 1
    return quotas
