"""The formats, one row each: what opens files, tells them apart and names them in messages follows from this table.

To add one, write a module as `tgdonnx.data.nifti` is, and put its row here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, TypeVar

from tgdonnx.data.arrays import NPY, NPZ
from tgdonnx.data.dicom import DICOM
from tgdonnx.data.format import ArrayFormat, Format, GroupFormat, SeriesFormat
from tgdonnx.data.hdf5 import HDF5
from tgdonnx.data.images import IMAGES
from tgdonnx.data.nifti import NIFTI

FORMATS: tuple[Format, ...] = (NPY, NPZ, HDF5, NIFTI, IMAGES, DICOM)

Kind = TypeVar("Kind", bound=Format)
_DOUBLE = tuple(suffix for each in FORMATS for suffix in each.suffixes if suffix.count(".") > 1)


def suffix_of(path: Path) -> str:
    """Returns the suffix of a file in lower case; that of a compressed one has two parts."""
    lower = path.name.lower()
    return next((suffix for suffix in _DOUBLE if lower.endswith(suffix)), path.suffix.lower())


def format_of(path: Path) -> Optional[Format]:
    """Returns the format that the suffix of a file says; None if none has it."""
    suffix = suffix_of(path)
    return next((each for each in FORMATS if suffix in each.suffixes), None)


def of_kind(kind: type[Kind]) -> tuple[Kind, ...]:
    """Returns the formats of one kind."""
    return tuple(each for each in FORMATS if isinstance(each, kind))


def holds_sample(each: Optional[Format]) -> bool:
    """Whether a file of a format is one sample of an array."""
    return isinstance(each, ArrayFormat) and each.holds_sample


def series_in(entries: Sequence[Path]) -> Optional[tuple[SeriesFormat, list[Path]]]:
    """Returns the files among entries of a directory that are of a series, and its format; None if there are none."""
    for each in of_kind(SeriesFormat):
        files = [entry for entry in entries if entry.is_file() and each.recognises(entry)]
        if files:
            return each, files
    return None


def describe_sources() -> str:
    """Returns in which forms data may lie, in words."""
    groups = [each.title for each in of_kind(GroupFormat)]
    beside = [each.title for each in FORMATS if not isinstance(each, SeriesFormat) and not holds_sample(each)]
    below = [each.title for each in FORMATS if not isinstance(each, GroupFormat)]
    return (
        f"an {_or(groups)} file, or a directory of {_or(beside)} files, or of one directory per array, with "
        f"{_or(below)} files in it"
    )


def describe_arrays() -> str:
    """Returns in which forms a single array may lie, in words."""
    whole = [each.title for each in of_kind(ArrayFormat) if not each.holds_sample]
    samples = [f"a {each.title}" for each in of_kind(ArrayFormat) if each.holds_sample]
    series = [each.title for each in of_kind(SeriesFormat)]
    return ", ".join([f"a {_or(whole)} file", *samples, f"or a directory with a {_or(series)} series"])


def _or(titles: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))
