"""What a run keeps of its data: which files, what was done to them, and a hash by which a resumed run knows them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tgdonnx.data.content import EXAMINED_BYTES
from tgdonnx.data.lazy_arrays import BLOCK_BYTES, ArrayGroup, LazyArray, regions
from tgdonnx.data.matching import SampleSet
from tgdonnx.data.options import DataOptions
from tgdonnx.graphs.tensor_specs import TensorSpec


def describe_files(sets: Sequence[SampleSet], hashes: Mapping[Path, str]) -> list[dict[str, Any]]:
    """Returns path, size, time of change and, where that is quick, hash of every file; those that are known are given."""
    paths = sorted({path for sample_set in sets for view in sample_set.views for path in view.stored.files})
    quick = sum(path.stat().st_size for path in paths) <= EXAMINED_BYTES
    return [
        {
            "path": str(path),
            "bytes": path.stat().st_size,
            "modified": path.stat().st_mtime,
            "sha256": (hashes.get(path) or _hash(_blocks(path))) if quick else None,
        }
        for path in paths
    ]


def describe_arrays(sets: Sequence[SampleSet], inputs: Sequence[TensorSpec]) -> dict[str, dict[str, Any]]:
    """Returns what the arrays of the first group look like, by input."""
    return {
        spec.name: {
            "dtype": str(view.stored.dtype),
            "shape": list(view.stored.shape),
            "layout": view.source,
            "sample": list(view.shape),
        }
        for spec, view in zip(inputs, sets[0].views)
    }


def identity(
    files: Sequence[dict[str, Any]], sets: Sequence[SampleSet], inputs: Sequence[TensorSpec], options: DataOptions
) -> str:
    """Returns a hash of what batches depend on: options and contents, not where files lie.

    Options that are as they are if not said do not count, so that those of a newer version leave the hash as it is. In place of
    the contents of files that are much, it takes names, sizes and times of change.
    """
    known = [file["sha256"] or [Path(file["path"]).name, file["bytes"], file["modified"]] for file in files]
    arrays = [
        [spec.name, list(view.stored.shape), str(view.stored.dtype)]
        for sample_set in sets
        for spec, view in zip(inputs, sample_set.views)
    ]
    default = asdict(type(options)())
    said = {name: value for name, value in asdict(options).items() if value != default[name]}
    text = json.dumps([known, list(_hashes_of_memory(sets)), arrays, said], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_of_arrays(groups: Iterable[ArrayGroup]) -> str:
    """Returns a hash of arrays: of their names, shapes, dtypes and values."""
    known = [
        [name, list(stored.shape), str(stored.dtype), _hash_of_values(stored)]
        for group in groups
        for name, stored in group.arrays.items()
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _hashes_of_memory(sets: Sequence[SampleSet]) -> Iterator[str]:
    for view in (view for sample_set in sets for view in sample_set.views if not view.stored.files):
        yield _hash_of_values(view.stored)


def _hash_of_values(stored: LazyArray) -> str:
    parts = (stored.read(region) for region in regions(stored.shape, stored.dtype.itemsize))
    return _hash(np.ascontiguousarray(part).tobytes() for part in parts)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(BLOCK_BYTES), b"")


def _hash(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
