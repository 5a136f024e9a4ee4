"""nnU-Net's folders: ``imagesTr/CASE_0000.nii.gz``, a file per channel, ``labelsTr/CASE.nii.gz``, and ``dataset.json``.

Of ``dataset.json`` the names of labels are read: ``{"background": 0, "tumour": 1}``, or in the older form
``{"0": "background", "1": "tumour"}``. The one that is called ``ignore`` is no class: places that nobody labelled have it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tgdonnx.data.class_names import check_classes, count_problem, describe_classes, shown
from tgdonnx.data.file_cache import FileCache, opened
from tgdonnx.data.formats import suffix_of
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray, Region
from tgdonnx.data.single import is_sample_file, only_input, sample_file, target_of
from tgdonnx.data.sources import Source, listing
from tgdonnx.errors import DataError
from tgdonnx.files.typed import MOST_BYTES
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec

IMAGES, LABELS, DESCRIPTION, IGNORE = "imagesTr", "labelsTr", "dataset.json", "ignore"
_CHANNEL = re.compile(r"(.+)_([0-9]{4})")


def is_nnunet(path: Path) -> bool:
    """Whether a directory is one of nnU-Net's."""
    return (path / IMAGES).is_dir() and (path / LABELS).is_dir()


def open_nnunet(path: Path, inputs: Sequence[TensorSpec], classes: Sequence[str] = ()) -> Source:
    """Opens every case: its channels as the input, its labels as the target.

    Args:
        path: the directory.
        inputs: what a step is fed: one input, and a target where it is read.
        classes: their names, as the user says them; none if empty.

    Raises:
        DataError: the model has several inputs, a case lacks a channel or its labels, a file cannot be read, or classes are
            called otherwise than in ``dataset.json``; there may be more of them. That there are more or fewer than the model
            has is in ``problems`` of the source.
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
    names: tuple[str, ...] = ()
    remarks: list[str] = []
    problem: Optional[DataError] = None
    described = path / DESCRIPTION
    if described.is_file():
        labels_said = read_labels(described)
        names = _named(labels_said.classes, classes, described)
        remarks.append(describe_classes(names, said=True))
        if labels_said.ignored is not None:
            remarks.append(
                f"{described}: label {labels_said.ignored} is no class, but what does not count: "
                f"`loss='ce(ignore={labels_said.ignored})'` leaves it out"
            )
        without = f" (without {IGNORE!r})" if labels_said.ignored is not None else ""
        problem = count_problem(names, target_of(inputs), f"{described}{without}", order="data")
    problems = () if problem is None else (problem,)
    return Source(str(path), tuple(groups), path, tuple(remarks), kept.hashes, names, problems=problems)


def _named(found: tuple[str, ...], said: Sequence[str], described: Path) -> tuple[str, ...]:
    """Returns the names of classes: those that were found, or what the user says, who may name more behind them."""
    if said and tuple(said[: len(found)]) != found:
        raise DataError(
            f"classes are named {shown(said)}, but {described} names {shown(found)}", remedy="leave out `classes`"
        )
    return tuple(said) or found


@dataclass(frozen=True)
class Labels:
    """What a ``dataset.json`` says of labels.

    Attributes:
        classes: the names of those that count, from 0 on.
        ignored: the one that does not count; None if all do.
    """

    classes: tuple[str, ...]
    ignored: Optional[int] = None


def read_labels(path: Path) -> Labels:
    """Returns the labels of a ``dataset.json``.

    Raises:
        DataError: it cannot be read, or classes do not count from 0, as those of regions do not.
    """
    with opened(path) as file:
        text = file.read(MOST_BYTES)
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON, or damaged: {error}") from error
    try:
        labels = content["labels"]
        pairs = [(int(b), str(a)) if isinstance(b, int) else (int(a), str(b)) for a, b in labels.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path}: expected "labels" with a name and a number of each, such as {{"background": 0}}'
        ) from error
    check_classes([name for _, name in pairs])
    ignored = next((number for number, name in pairs if name == IGNORE), None)
    pairs = sorted(pair for pair in pairs if pair[1] != IGNORE)
    numbers = [number for number, _ in pairs]
    if not pairs or numbers != list(range(len(pairs))) or ignored in numbers:
        raise DataError(f"{path}: expected labels that count from 0, found {', '.join(map(str, numbers))}")
    return Labels(tuple(name for _, name in pairs), ignored)


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
