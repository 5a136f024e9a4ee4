"""A site: a TOML file that says where its artifacts and its data are, and how the data is read.

    name = "north"                  # what others call it
    artifacts = "artifacts"         # a copy of the artifacts that the server has; it is not written to
    data = "train.npz"              # whatever `tgdonnx train --data` takes
    validation = "held_out.npz"     # if there is any
    retain = "old.npz"              # of the vendor's own task, if there is any
    runs = "runs/north"             # where runs are kept, of this site alone; else in `runs/` and the name of this file
    device = "cpu"

    [reading]                       # the fields of `tgdonnx.DataOptions`
    patch = [32, 32]

Paths are relative to the file. Nothing of it but the name leaves the site.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec

from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError
from tgdonnx.files.optionfiles import read_options
from tgdonnx.finetuning import RunData
from tgdonnx.runtime import CPU_NAME, parse_device


@dataclass(frozen=True)
class Site:
    """A site.

    Attributes:
        name: what others call it.
        artifacts: a copy of the artifacts that the server has.
        data: what it trains on, and what it looks at besides.
        runs: where runs are kept.
        device: where it computes.
    """

    name: str
    artifacts: Path
    data: RunData
    runs: Path
    device: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    artifacts: str
    data: str
    validation: Optional[str] = None
    retain: Optional[str] = None
    runs: Optional[str] = None
    device: str = CPU_NAME
    reading: dict[str, Any] = {}


def read_site(path: Path) -> Site:
    """Reads the file of a site.

    Raises:
        DataError: it cannot be read, or says something else than it should.
    """
    try:
        content = msgspec.convert(read_options(path), _File)
        unknown = sorted(content.reading.keys() - {field.name for field in fields(DataOptions)})
        if unknown:
            raise ValueError(f"`reading` has no {unknown[0]!r}; expected fields of `tgdonnx.DataOptions`")
        reading = msgspec.convert(content.reading, DataOptions)
        parse_device(content.device)
    except ValueError as error:  # those of msgspec and our own are some
        raise DataError(f"{path} is no file of a site: {error}") from error

    def beside(place: Optional[str]) -> Optional[Path]:
        return None if place is None else path.parent / place

    return Site(
        content.name,
        path.parent / content.artifacts,
        RunData(path.parent / content.data, beside(content.validation), beside(content.retain), reading=reading),
        path.parent / (content.runs or Path("runs", path.stem)),  # files of several sites may lie in one directory
        content.device,
    )


def site_of_partition(directory: Path, partition: int) -> Path:
    """Returns the file of a simulated site: of those in a directory, in the order of their names.

    Raises:
        DataError: there are not so many.
    """
    files = sorted(directory.glob("*.toml"))
    if partition >= len(files):
        raise DataError(
            f"{directory} has {len(files)} files of sites (*.toml), and site {partition + 1} is asked for",
            remedy="simulate as many SuperNodes as there are files",
        )
    return files[partition]
