"""What a run keeps of its data: which files, what was done to them, and a hash by which a resumed run knows them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tgdonnx.data.content import EXAMINED_BYTES
from tgdonnx.data.matching import Member
from tgdonnx.data.options import DataOptions
from tgdonnx.data.stored import BLOCK_BYTES, regions
from tgdonnx.graphs.tensor_specs import TensorSpec


def describe_files(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Returns path, size, time of change and, where that is quick, hash of every file."""
    paths = sorted({path for member in members for view in member.views for path in view.stored.files})
    quick = sum(path.stat().st_size for path in paths) <= EXAMINED_BYTES
    return [
        {
            "path": str(path),
            "bytes": path.stat().st_size,
            "modified": path.stat().st_mtime,
            "sha256": _hash(_blocks(path)) if quick else None,
        }
        for path in paths
    ]


def describe_arrays(members: Sequence[Member], inputs: Sequence[TensorSpec]) -> dict[str, dict[str, Any]]:
    """Returns what the arrays of the first case look like, by input."""
    return {
        spec.name: {
            "dtype": str(view.stored.dtype),
            "shape": list(view.stored.shape),
            "layout": view.source,
            "sample": list(view.shape),
        }
        for spec, view in zip(inputs, members[0].views)
    }


def identity(
    files: Sequence[dict[str, Any]], members: Sequence[Member], inputs: Sequence[TensorSpec], options: DataOptions
) -> str:
    """Returns a hash of what batches depend on: options and contents, not where files lie.

    In place of contents that are much, it takes names, sizes and times of change.
    """
    known = [file["sha256"] or [Path(file["path"]).name, file["bytes"], file["modified"]] for file in files]
    arrays = [
        [spec.name, list(view.stored.shape), str(view.stored.dtype)]
        for member in members
        for spec, view in zip(inputs, member.views)
    ]
    text = json.dumps([known, list(_hashes_of_memory(members)), arrays, asdict(options)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _hashes_of_memory(members: Sequence[Member]) -> Iterator[str]:
    for view in (view for member in members for view in member.views if not view.stored.files):
        stored = view.stored
        if stored.nbytes <= EXAMINED_BYTES:
            parts = (stored.read(region) for region in regions(stored.shape, stored.dtype.itemsize))
            yield _hash(np.ascontiguousarray(part).tobytes() for part in parts)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(BLOCK_BYTES), b"")


def _hash(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
