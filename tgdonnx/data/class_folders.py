"""Class folders: ``root/CLASS/picture``, a directory per class, with a file per sample in it, or in directories below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tgdonnx.data.class_names import count_problem, describe_classes, in_order, shown
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.lazy_arrays import ArrayGroup
from tgdonnx.data.naming import is_usual_target
from tgdonnx.data.problems import raise_first
from tgdonnx.data.single import is_sample_file, one_value, only_input, sample_file, takes_one_label, target_of
from tgdonnx.data.sources import Source, listing
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec


def are_class_folders(path: Path, inputs: Sequence[TensorSpec], mapped: Mapping[str, str]) -> bool:
    """Whether a directory has one directory per class, and none per array.

    Args:
        path: the directory.
        inputs: what a step is fed: one input and class indices, or that input alone.
        mapped: arrays that are mapped to inputs.
    """
    folders = [entry for entry in listing(path) if entry.is_dir()]
    if any(not entry.is_dir() and is_sample_file(entry) for entry in listing(path)):
        return False
    target = target_of(inputs)
    if only_input(inputs) is None or not (takes_one_label(target) or (target is None and len(folders) > 1)):
        return False
    names = {*mapped, *(spec.name for spec in inputs), *(spec.vendor_name for spec in inputs)}
    if any(folder.name in names or is_usual_target(folder.name) for folder in folders):
        return False
    return any(is_sample_file(entry) for folder in folders for entry in _below(folder))


def _below(folder: Path) -> Iterator[Path]:
    for entry in listing(folder):
        if entry.is_dir() and not entry.is_symlink():
            yield from _below(entry)
        else:
            yield entry


def open_class_folders(path: Path, inputs: Sequence[TensorSpec], classes: Sequence[str]) -> Source:
    """Opens every picture as a case, with the place of its folder among the classes as target.

    Args:
        path: the directory.
        inputs: what a step is fed.
        classes: their names in the model's order; those of the folders, sorted, if empty.

    Raises:
        DataError: no folder is of a class, or a file cannot be read. That some are of none, or that there are more or fewer
            classes than the model has, is in ``problems`` of the source.
        RuntimeMissingError: the library for a format is not installed.
    """
    spec, target = only_input(inputs), target_of(inputs)
    assert spec is not None
    folders = [entry for entry in listing(path) if entry.is_dir()]
    names = tuple(classes) or in_order([folder.name for folder in folders])
    problems = [
        DataError(f"{folder} is of no class; expected one of {shown(names)}", remedy="rename or remove it")
        for folder in folders
        if folder.name not in names
    ]
    if len(problems) == len(folders):
        raise_first(problems)
    problems += filter(None, [count_problem(names, target, str(path), order="user" if classes else "sorted")])
    folders = [folder for folder in folders if folder.name in names]
    kept, groups, ignored = FileCache(), [], [entry for entry in listing(path) if not entry.is_dir()]
    strata: list[str] = []
    for folder in folders:
        place = names.index(folder.name)
        for entry in _below(folder):
            if not is_sample_file(entry):
                ignored.append(entry)
                continue
            label = one_value(place, target, f"{folder} (class {place})")
            name = entry.relative_to(path).as_posix()
            groups.append(ArrayGroup(name, {spec.name: sample_file(entry, kept), TARGET: label}))
            strata.append(folder.name)
    remarks = [describe_classes(names, said=bool(classes))]
    empty = [name for name in names if name not in {folder.name for folder in folders}]
    if empty:
        remarks.append(f"{path}: nothing of {shown(empty)}")
    if ignored:
        remarks.append(f"{path}: not read, being no data: {shown([str(each.relative_to(path)) for each in ignored])}")
    return Source(str(path), tuple(groups), path, tuple(remarks), kept.hashes, names, tuple(strata), tuple(problems))
