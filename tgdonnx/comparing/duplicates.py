"""Selections that are one: by other names, the same numbers would train from the same start, and come to the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts.manifest import MASKED_MODEL, RUN
from tgdonnx.comparing.candidates import Candidate
from tgdonnx.masked_model import read_masked


def duplicates(candidates: Sequence[Candidate], artifacts_of: Callable[[Candidate], Path]) -> dict[str, str]:
    """Returns the names of selections that are left out, each with the one that it is the same as.

    Of several that are the same one stays that has been trained already, or else the first. Where there are runs by several
    seeds, selections are the same if they are by each.

    Args:
        candidates: selections whose artifacts are built.
        artifacts_of: says where those are.
    """
    names = [candidate.name for candidate in candidates]
    by_seed: dict[Optional[int], dict[bytes, list[Candidate]]] = {}
    for candidate in candidates:
        groups = by_seed.setdefault(candidate.seed, {})
        groups.setdefault(_identity(candidate, artifacts_of(candidate)), []).append(candidate)
    found: list[set[tuple[str, str]]] = []
    for groups in by_seed.values():
        same: set[tuple[str, str]] = set()
        for group in groups.values():
            kept = next((each for each in group if (artifacts_of(each) / RUN).is_file()), group[0])
            same.update((each.name, kept.name) for each in group if each is not kept)
        found.append(same)
    return dict(sorted(set.intersection(*found), key=lambda pair: names.index(pair[0])))


def _identity(candidate: Candidate, artifacts: Path) -> bytes:
    """Returns a hash of all that a comparison does not hold equal: masks, values at the start, regularisers."""
    masked = read_masked(artifacts / MASKED_MODEL)
    digest = hashlib.sha256(repr(sorted(candidate.regularisers)).encode())
    for kind, masks in (("mask", masked.masks), ("set", masked.set_masks)):
        for name, mask in sorted(masks.items()):
            start = masked.network.stored_parameters[name].numpy()
            digest.update(repr((kind, name, mask.shape, start.shape)).encode())
            digest.update(mask.tobytes())
            digest.update(start.tobytes())
    return digest.digest()
