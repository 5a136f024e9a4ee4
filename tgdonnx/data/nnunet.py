"""nnU-Net's folders: ``imagesTr/CASE_0000.nii.gz``, a file per channel, ``labelsTr/CASE.nii.gz``, and ``dataset.json``.

Of ``dataset.json`` the names of labels are read: ``{"background": 0, "tumour": 1}``, or in the older form
``{"0": "background", "1": "tumour"}``.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tgdonnx.data.class_names import check_classes, describe_classes, require_as_many
from tgdonnx.data.file_cache import FileCache, opened
from tgdonnx.data.formats import suffix_of
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray, Region
from tgdonnx.data.single import is_sample_file, only_input, sample_file, target_of
from tgdonnx.data.sources import Source, listing
from tgdonnx.errors import DataError
from tgdonnx.files.typed import MOST_BYTES
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec

IMAGES, LABELS, DESCRIPTION = "imagesTr", "labelsTr", "dataset.json"
_CHANNEL = re.compile(r"(.+)_([0-9]{4})")


def is_nnunet(path: Path) -> bool:
    """Whether a directory is one of nnU-Net's."""
    return (path / IMAGES).is_dir() and (path / LABELS).is_dir()


def open_nnunet(path: Path, inputs: Sequence[TensorSpec]) -> Source:
    """Opens every case: its channels as the input, its labels as the target.

    Args:
        path: the directory.
        inputs: what a step is fed: one input, and a target where it is read.

    Raises:
        DataError: the model has several inputs, a case lacks a channel or its labels, or a file cannot be read.
        RuntimeMissingError: the library for a format is not installed.
    """
    spec = only_input(inputs)
    if spec is None:
        raise DataError(f"{path} is a directory of nnU-Net, for a model of one input; this one takes several")
    kept = FileCache()
    labels = {_stem(file): file for file in listing(path / LABELS) if is_sample_file(file)}
    images: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in listing(path / IMAGES):
        named = _CHANNEL.fullmatch(_stem(file)) if is_sample_file(file) else None
        if named is not None:
            images[named[1]][int(named[2])] = file
    if not images:
        raise DataError(f"{path / IMAGES} holds no CASE_0000 file; expected one per case and channel")
    groups = []
    for case in sorted(images):
        channels = images[case]
        if sorted(channels) != list(range(len(next(iter(images.values()))))):
            raise DataError(
                f"{path / IMAGES}: {case} has the channels {', '.join(map(str, sorted(channels)))}; expected the same of every "
                "case, from 0000 on"
            )
        if case not in labels:
            raise DataError(f"{path / LABELS} has nothing named {case!r} to go with {next(iter(channels.values()))}")
        image = _stacked([sample_file(channels[place], kept) for place in sorted(channels)])
        groups.append(ArrayGroup(case, {spec.name: image, TARGET: sample_file(labels[case], kept)}))
    names = read_labels(path / DESCRIPTION) if (path / DESCRIPTION).is_file() else ()
    require_as_many(names, target_of(inputs) if names else None, str(path / DESCRIPTION), said=True)
    remarks = (describe_classes(names, said=True),) if names else ()
    return Source(str(path), tuple(groups), path, remarks, kept.hashes, names)


def read_labels(path: Path) -> tuple[str, ...]:
    """Returns the names of the labels that a ``dataset.json`` counts from 0 on.

    Raises:
        DataError: it cannot be read, or labels are no such numbers, as those of regions are not.
    """
    try:
        with opened(path) as file:
            content: Any = json.loads(file.read(MOST_BYTES))
        labels = content["labels"]
        pairs = [(int(b), str(a)) if isinstance(b, int) else (int(a), str(b)) for a, b in labels.items()]
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{path}: expected "labels" with a name and a number of each, such as {{"background": 0}}'
        ) from error
    pairs.sort()
    if [number for number, _ in pairs] != list(range(len(pairs))):
        raise DataError(f"{path}: expected labels that count from 0, found {', '.join(str(n) for n, _ in pairs)}")
    names = tuple(name for _, name in pairs)
    check_classes(names)
    return names


def _stacked(channels: Sequence[LazyArray]) -> LazyArray:
    """Returns files of one channel each as one array with an axis of channels before the others."""
    first = channels[0]
    if len(channels) == 1:
        return first
    for other in channels[1:]:
        if (other.shape, other.dtype, other.orientation) != (first.shape, first.dtype, first.orientation):
            raise DataError(
                f"channels of a case differ: {first.place} is {first.dtype} {list(first.shape)}, {other.place} {other.dtype} "
                f"{list(other.shape)}, or they lie differently in space"
            )

    def read(region: Region) -> Array:
        return np.stack([channel.read(region[1:]) for channel in channels[region[0]]])

    files = tuple(file for channel in channels for file in channel.files)
    layout = None if first.layout is None else f"C{first.layout}"
    return replace(first, shape=(len(channels), *first.shape), read=read, layout=layout, files=files)


def _stem(path: Path) -> str:
    return path.name[: -len(suffix_of(path))] if suffix_of(path) else path.name
