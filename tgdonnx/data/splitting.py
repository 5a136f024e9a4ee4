"""A validation split by file, so that no patch of a validated picture is trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tgdonnx.data.sources import Source
from tgdonnx.errors import DataError


def split(source: Source, fraction: float, seed: int = 0) -> tuple[Source, Source]:
    """Divides the groups of a source.

    Args:
        source: at least two groups.
        fraction: of the groups that are for validation, rounded.
        seed: which ones; the same names and seed give the same split everywhere.

    Returns:
        What is for training and for validation.

    Raises:
        DataError: there is one group only, or either part would be empty.
    """
    total = len(source.groups)
    if total == 1:
        raise DataError(
            f"{source.where} is a single file, and a split goes by files",
            remedy="give `validation`, or the data as several files",
        )
    held_out = round(total * fraction)
    if not held_out or held_out == total:
        empty = "validation" if not held_out else "training"
        raise DataError(f"a validation split of {fraction:g} of {total} files leaves none for {empty}")
    chosen = set(np.random.default_rng([seed]).permutation(total)[:held_out].tolist())
    training = tuple(group for index, group in enumerate(source.groups) if index not in chosen)
    validation = tuple(group for index, group in enumerate(source.groups) if index in chosen)
    return replace(source, groups=training), replace(source, groups=validation, remarks=(), problems=())
