"""A source opened for a model: what its inputs are tells class folders from a folder per array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tgdonnx.data.class_folders import are_class_folders, open_class_folders
from tgdonnx.data.class_names import shown
from tgdonnx.data.nnunet import is_nnunet, open_nnunet
from tgdonnx.data.options import DataOptions
from tgdonnx.data.single import target_of
from tgdonnx.data.sources import DataSource, Source, listing, open_source, told
from tgdonnx.data.tables import is_table, open_table
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec


def open_for(source: DataSource, inputs: Sequence[TensorSpec], options: DataOptions) -> Source:
    """Opens a source: class folders, a table or nnU-Net's folders, or what `open_source` takes.

    Args:
        source: see `tgdonnx.data.sources`, `class_folders`, `tables` and `nnunet`.
        inputs: what a step is fed.
        options: which names are mapped to inputs, and how classes are called.

    Raises:
        DataError: as of these; classes are named, but the target is no class index.
        RuntimeMissingError: the library for a format is not installed.
    """
    found = _named(_open(source, inputs, options), inputs)
    target = target_of(inputs)
    if options.classes and target is not None and not target.takes_labels:
        raise DataError(
            "classes are named, but the target is no class index",
            remedy="build with `loss='ce'`, or leave out `classes`",
        )
    return found if found.classes else replace(found, classes=options.classes)


def _named(source: Source, inputs: Sequence[TensorSpec]) -> Source:
    """Returns a source in which arrays that came in order have names: of the model's inputs, then of what it is trained on.

    Where nothing is trained on there may be a target all the same, and more, which nobody takes.

    Raises:
        DataError: there are more arrays than a training step takes.
    """
    if not any(group.in_order for group in source.groups):
        return source
    names, trains = [spec.name for spec in inputs], any(spec.role == "target" for spec in inputs)
    wanted = names if trains else [*names, TARGET]
    groups = []
    for group in source.groups:
        arrays = list(group.arrays.values())
        if group.in_order and trains and len(arrays) > len(names):
            raise DataError(
                f"{source.where}, {group.name}, has {len(arrays)} arrays; expected {len(names)}, in this order: "
                f"{', '.join(names)}",
                remedy="give them by name",
            )
        more = [f"array {place}" for place in range(len(wanted), len(arrays))]
        named = dict(zip([*wanted, *more], arrays)) if group.in_order else group.arrays
        groups.append(replace(group, arrays=named, in_order=False))
    said = f"arrays of a batch are taken in this order: {', '.join(wanted)}"
    return replace(source, groups=tuple(groups), remarks=(*source.remarks, said))


def _open(source: DataSource, inputs: Sequence[TensorSpec], options: DataOptions) -> Source:
    if not isinstance(source, (str, os.PathLike)):
        return open_source(source)
    path = Path(source)
    with told(path):
        if is_table(path) and path.is_file():
            return open_table(path, inputs, options.map, options.classes)
        if not path.is_dir():
            return open_source(path)
        if is_nnunet(path):
            return open_nnunet(path, inputs, options.classes)
        if are_class_folders(path, inputs, options.map):
            return open_class_folders(path, inputs, options.classes)
    targets = [spec for spec in inputs if spec.role == "target"]
    if targets and are_class_folders(path, [spec for spec in inputs if spec.role == "input"], options.map):
        folders = [entry.name for entry in listing(path) if entry.is_dir()]
        mapped = dict(zip(folders, (spec.name for spec in inputs)))
        raise DataError(
            f"{path}: none of the directories ({shown(folders)}) is named like an input or target of the model; expected "
            f"{' and '.join(spec.name for spec in inputs)}",
            remedy=f"if these are folders of classes, build with `loss='ce'`; else say which is which, as in `map={mapped!r}`",
        )
    return open_source(path)
