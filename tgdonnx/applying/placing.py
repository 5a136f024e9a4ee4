"""Where results go: one file, a directory with a file for each of many, a table, a series, or nowhere but into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

from tgdonnx.applying.dicomfiles import SERIES, other_slices, slice_name, why_no_series
from tgdonnx.applying.feeding import Case
from tgdonnx.applying.imagefiles import ARRAYS, SUFFIXES, Made, nifti_file, suffix_of, why_not
from tgdonnx.applying.picturefiles import PICTURES
from tgdonnx.data.formats import series_in
from tgdonnx.data.images import IMAGES
from tgdonnx.errors import DataError, OutputError
from tgdonnx.files.staging import require_places

TABLE = ".csv"
Place = Literal["memory", "file", "table", "directory"]
APPLIED = ".applied"  # ends the name of what is written beside a tuned model, where nobody says another


def place_of(output: Optional[Path]) -> Place:
    """Returns what an output is, by its name.

    Raises:
        DataError: results are not written so.
    """
    if output is None:
        return "memory"
    if output.suffix.lower() == TABLE:
        return "table"
    if suffix_of(output):
        return "file"
    if output.suffix not in ("", APPLIED) and not output.is_dir():
        written = ", ".join((*SUFFIXES[:-1], TABLE))
        raise DataError(
            f"{output}: results are written as {written} or {SUFFIXES[-1]}, or into a directory, whose name has no suffix",
            remedy="choose one of these names",
        )
    return "directory"


def is_series(case: Case) -> bool:
    """Whether the image of a case is a DICOM series."""
    files = list(case.view.stored.files)
    return len(files) > 0 and case.view.source == "DHW" and series_in(files) is not None


@dataclass(frozen=True)
class Target:
    """Where the results of a case go.

    Attributes:
        path: the file; of a series, the directory.
        suffix: how it is written.
    """

    path: Path
    suffix: str


def file_target(output: Path, made: Sequence[Made]) -> Target:
    """Returns the one file that the results of a case go to.

    Raises:
        DataError: it cannot hold them.
    """
    suffix = suffix_of(output)
    reason = _why_not(suffix, made, output)
    if reason:
        raise DataError(f"{output}: {reason}", remedy="write it as .npy" if len(made) == 1 else "write it as .npz")
    return Target(output, suffix)


def directory_targets(
    output: Path, cases: Sequence[Case], first: Sequence[Made], suffix: Optional[str], *, several: bool, overwrite: bool
) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Returns where in a directory the results of every case go, and what is to be said of that.

    Args:
        output: the directory.
        cases: all of them.
        first: the results of the first.
        suffix: that is asked for; None for that of every file, where results are written so, else ``.npy``.
        several: whether there may be many; a single one has to be a series.
        overwrite: whether files may exist.

    Raises:
        DataError: the results are no files of that suffix, or there is but one, and it is no series.
        OutputError: two files would be the same, one is there, or another series is.
    """
    if not several and not (is_series(cases[0]) and suffix in (None, SERIES)):
        raise DataError(
            f"{output} is no file that a result is written to; expected one of {', '.join((*SUFFIXES, TABLE))}",
            remedy="choose such a name; only results of many files, or of a DICOM series, go into a directory",
        )
    if suffix is not None and suffix not in (*SUFFIXES, SERIES):
        raise DataError(f"expected a suffix of {', '.join((*SUFFIXES, SERIES))}, got {suffix!r}")
    plain = ARRAYS if len(first) > 1 else ".npy"
    said: list[str] = []
    chosen = suffix or _own_suffix(cases[0])
    reason = _why_not(chosen, first, output, cases[0])
    if reason and (suffix is not None or not several):
        raise DataError(f"{output}: results cannot be written as {chosen}: {reason}", remedy=f"write them as {plain}")
    if reason:
        said.append(f"results are written as {plain}, not as {chosen}: {reason}")
    suffixes = [plain if reason else suffix or _own_suffix(case) for case in cases]
    targets = tuple(_target(output, case, each, several=several) for case, each in zip(cases, suffixes))
    names = [name for case, target in zip(cases, targets) for name in _names(output, case, target)]
    require_places(output, names, overwrite=overwrite)
    read = {file.resolve() for case in cases for file in case.view.stored.files}
    clash = next((output / name for name in names if (output / name).resolve() in read), None)
    if clash is not None:
        raise OutputError(
            f"{clash} is one of the inputs, which are never overwritten", remedy="choose another directory"
        )
    for case, target in zip(cases, targets):
        if target.suffix == SERIES:
            mixed = next(other_slices(target.path, [slice_name(i) for i in range(len(case.view.stored.files))]), None)
            if mixed is not None:
                raise OutputError(
                    f"{target.path} holds {mixed.name}, of another series", remedy="choose another directory"
                )
    return targets, tuple(said)


def _target(output: Path, case: Case, suffix: str, *, several: bool) -> Target:
    if suffix == SERIES:
        return Target(output / case.name if several else output, suffix)
    return Target(output / f"{_without_suffix(case.name)}{suffix}", suffix)


def _names(output: Path, case: Case, target: Target) -> list[str]:
    if target.suffix != SERIES:
        return [str(target.path.relative_to(output))]
    inside = target.path.relative_to(output)
    return [str(inside / slice_name(index)) for index in range(len(case.view.stored.files))]


def _own_suffix(case: Case) -> str:
    """Returns how results of a case are written where nothing is said: as its image is."""
    if is_series(case):
        return SERIES
    stored = case.view.stored
    if nifti_file(stored) is not None:
        return suffix_of(stored.files[0])
    suffix = stored.files[0].suffix.lower() if stored.files else ""
    return (suffix if suffix in PICTURES else ".png") if suffix in IMAGES.suffixes else ".npy"


def _why_not(suffix: str, made: Sequence[Made], place: Path, case: Optional[Case] = None) -> str:
    """Returns why a file cannot hold the results of a case; nothing if it can."""
    if suffix == ARRAYS:
        return ""
    if len(made) > 1:
        return f"it holds one result, and the model gives {', '.join(each.output for each in made)}"
    (only,) = made
    if suffix != SERIES:
        return why_not(suffix, only, place)
    if case is None or not is_series(case):
        return f"{only.stored.place} is no DICOM series"
    return why_no_series(only.axes, only.shape, only.stored.shape)


def _without_suffix(name: str) -> str:
    lower = name.lower()
    known = (*SUFFIXES, *IMAGES.suffixes, ".npz", ".h5", ".hdf5")
    found = max((suffix for suffix in known if lower.endswith(suffix)), key=len, default="")
    return name[: len(name) - len(found)]
