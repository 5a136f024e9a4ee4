"""What people call a sample: a file, a row of a table, or a place in an array; and what the data says of it besides.

That is: the other columns of a table; arrays that nothing takes, of numbers or text, with one value per sample, by their names;
and as ``folder``, where neither says that, the name of the directory that its file lies in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tgdonnx.data.lazy_arrays import LazyArray, whole
from tgdonnx.data.matching import SampleSet

FOLDER = "folder"


@dataclass(frozen=True)
class Case:
    """A sample.

    Attributes:
        name: what it is called.
        columns: what the data says of it that no model is fed, by name.
        path: the file that its first input is read from, of several, such as the slices of a series, the directory that they
            lie in; empty in memory.
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    path: str = ""


def cases_of(sets: Sequence[SampleSet]) -> tuple[Case, ...]:
    """Returns the samples of groups, in order.

    Raises:
        DataError: an array with one value per sample cannot be read.
    """
    found = []
    for each in sets:
        path = _path(each.views[0].stored.files)
        folder = {FOLDER: Path(path).parent.name} if path else {}
        labels = {name: _values(stored) for name, stored in each.unused.items() if _is_one_per_sample(stored, each)}
        for number in range(each.count):
            name = each.name if each.count == 1 else f"sample {number + 1}"
            name = name if len(sets) == 1 or each.count == 1 else f"{each.name}, {name}"
            own = {label: values[number] for label, values in labels.items()}
            found.append(Case(name, {**folder, **own, **each.columns}, path))
    return tuple(found)


def _path(files: Sequence[Path]) -> str:
    if not files:
        return ""
    return str(files[0]) if len(files) == 1 else os.path.commonpath(files)


def _is_one_per_sample(stored: LazyArray, each: SampleSet) -> bool:
    size = int(np.prod(stored.shape, dtype=np.int64))
    return size == each.count and max(stored.shape, default=1) == size and stored.dtype.kind in "biufUS"


def _values(stored: LazyArray) -> list[str]:
    """Returns the values of an array as text, as those of a table would be."""
    values = stored.read(whole(stored.shape)).reshape(-1)
    if values.dtype.kind == "S":
        return [value.decode(errors="replace") for value in values.tolist()]
    return [f"{value:.17g}" if isinstance(value, float) else str(value) for value in values.tolist()]
