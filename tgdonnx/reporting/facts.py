"""What was asked for, and with which data and versions: rows of tables, from the manifest and the record of the run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any, Optional

from tgdonnx.artifacts import Manifest
from tgdonnx.calls import in_words_of_reader
from tgdonnx.data import Scaling
from tgdonnx.finetuning.run_record import DataRecord, RunRecord
from tgdonnx.reporting.proof import FileFacts
from tgdonnx.selection import STRATEGIES

MOST_FILES = 20
_SELECTIONS = {each.name: each.told for each in STRATEGIES}
_MODES = {
    "paper": "whole filters train",
    "readers": "whole filters train, and in every other filter the kernels that read a meaningless map",
    "regrow": "dropped filters are reinitialised with initial values, and what reads them starts at 0",
    "adapter": "side paths are added, which start at 0, and nothing else trains",
}
_UNITS = {"checkpoint_every": " s", "max_time": " s"}


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: what it is.
        value: in words.
    """

    name: str
    value: str


def selection_rows(manifest: Manifest) -> tuple[Row, ...]:
    """Returns how filters were chosen."""
    selection = manifest.selection
    strategy = str(selection.get("strategy", ""))
    try:
        meaning = _SELECTIONS.get(strategy, "").format(**selection)
    except (KeyError, IndexError):
        meaning = ""
    rows = [Row("selection", f"{strategy}: {meaning}" if meaning else strategy or "not recorded")]
    for name, value in selection.items():
        if name == "mode":
            meaning = _MODES.get(str(value), "")
            rows.append(Row("mode", f"{value}: {meaning}" if meaning else str(value)))
        elif name not in ("strategy", "filters"):
            rows.append(Row(name, _words(value)))
    return tuple(rows)


def option_rows(manifest: Manifest, run: Optional[RunRecord]) -> tuple[Row, ...]:
    """Returns the options of build and of training that were set or have a default."""
    options = {**manifest.options.as_dict(), **(asdict(run.options) if run else {})}
    rows = [
        Row(str(name).replace("_", " "), _words(value) + _UNITS.get(name, ""))
        for name, value in options.items()
        if value not in (None, [], (), "", {})
    ]
    if run is not None and run.data_range is not None:
        rows.append(Row("data range of psnr and ssim", _words(run.data_range)))
    return tuple(rows)


def time_rows(run: Optional[RunRecord]) -> tuple[Row, ...]:
    """Returns when the run began, and when it was resumed."""
    if run is None:
        return ()
    resumed = (Row("resumed", f"{entry.time}, after step {entry.step:,}") for entry in run.resumed)
    return (Row("started", run.started), *resumed)


def version_rows(manifest: Manifest, run: Optional[RunRecord]) -> tuple[Row, ...]:
    """Returns the versions that built the artifacts, and those that trained them."""
    rows = [Row(f"{name} (build)", version) for name, version in manifest.versions.items()]
    return (*rows, *(Row(f"{name} (training)", version) for name, version in (run.versions if run else {}).items()))


def data_files(run: Optional[RunRecord]) -> tuple[FileFacts, ...]:
    """Returns the files of the data, as far as the record of the run names them; of many, the first 20 of each kind."""
    found = []
    for role, data in described_data(run):
        for file in data.files[:MOST_FILES]:
            found.append(FileFacts(role, PurePath(file.path).name, file.bytes, file.sha256))
        if len(data.files) > MOST_FILES:
            found.append(FileFacts(role, f"and {len(data.files) - MOST_FILES:,} more, in run.json", None, None))
        if not data.files:
            found.append(FileFacts(role, PurePath(data.source or data.where).name, None, None))
    return tuple(found)


def data_rows(run: Optional[RunRecord]) -> tuple[Row, ...]:
    """Returns how much data there was, and what was done to it."""
    rows = []
    said: set[str] = set()
    for role, data in described_data(run):
        told = [f"{data.samples:,} samples", f"{data.cases:,} cases"]
        if data.options.patch is not None:
            told.append(f"patches of {_words(data.options.patch)}, {data.per_epoch:,} per epoch")
        if data.options.classes:
            told.append(f"classes {_words(data.options.classes)}")
        if data.options.augment:
            told.append(f"varied by {_words(data.options.augment)}")
        rows.append(Row(role, "; ".join(told)))
        # What was said of one data set needs no saying again of the next.
        remarks = [remark for remark in data.remarks if remark not in said]
        said.update(remarks)
        rows += [Row("", in_words_of_reader(remark)) for remark in remarks[:MOST_FILES]]
    return tuple(rows)


def recorded_scaling(run: Optional[RunRecord]) -> Optional[Scaling]:
    """Returns how the training data was scaled; None if it was not, or if there is no record."""
    return Scaling(dict(run.data.scaling)) if run is not None and run.data.scaling else None


def is_labelled(run: Optional[RunRecord]) -> Optional[bool]:
    """Whether the data of the vendor's own task had targets; None if there is none, or no record."""
    return run.retention.labelled if run is not None and run.retention is not None else None


def is_by_patches(run: Optional[RunRecord]) -> bool:
    """Whether the run measured its validation data in patches, rather than whole cases."""
    return run is not None and run.validation is not None and run.validation.options.patch is not None


def now() -> str:
    """Returns the time, in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def described_data(run: Optional[RunRecord]) -> tuple[tuple[str, DataRecord], ...]:
    """Returns the data sets of a run with what they were for."""
    if run is None:
        return ()
    agreed = run.agree.images if run.agree is not None else None
    found = (
        ("training data", run.data),
        ("images to agree with the vendor on", agreed),
        ("validation data", run.validation),
        ("data of the vendor's own task", run.retain),
    )
    return tuple((role, data) for role, data in found if data is not None)


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value)
    return json.dumps(value, ensure_ascii=False)
