"""What was asked for, and with which data and versions: rows of tables, from the manifest and the record of the run.

The record may be of an older or newer version, or damaged: keys that are not there are left out, those that are not known
are shown as they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any, Optional

from tgdonnx.artifacts import Manifest
from tgdonnx.data import Linear, Scaling
from tgdonnx.reporting.proof import FileFacts

MOST_FILES = 20
_SELECTIONS = {
    "phi": "filters whose every map scores below phi with every layer that reads it",
    "percentile": "as by phi; phi is the threshold below which the lowest {percentile} % of all traced scores lie",
    "last": "all filters of the last {last} layers",
    "first": "all filters of the first {first} layers",
    "all": "every filter",
    "filters": "the filters of a list",
}
_MODES = {
    "paper": "whole filters train",
    "readers": "whole filters train, and in every other filter the kernels that read a meaningless map",
    "regrow": "dropped filters are reborn with fresh values, and what reads them starts at 0",
}
_UNITS = {"checkpoint_every": " s", "max_time": " s"}
_ROLES = {"data": "training data", "validation": "validation data", "retain": "data of the vendor's own task"}


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


def option_rows(manifest: Manifest, run: Mapping[str, Any]) -> tuple[Row, ...]:
    """Returns the options of build and of training that were set or have a default."""
    options = {**manifest.options, **_mapping(run.get("options"))}
    rows = [
        Row(str(name).replace("_", " "), _words(value) + _UNITS.get(name, ""))
        for name, value in options.items()
        if value not in (None, [], "", {})
    ]
    if run.get("data_range") is not None:
        rows.append(Row("data range of psnr and ssim", _words(run["data_range"])))
    return tuple(rows)


def time_rows(run: Mapping[str, Any]) -> tuple[Row, ...]:
    """Returns when the run began, and when it was resumed."""
    rows = [Row("started", str(run["started"]))] if run.get("started") else []
    resumed = run.get("resumed")
    for entry in resumed if isinstance(resumed, list) else []:
        entry = _mapping(entry)
        rows.append(Row("resumed", f"{entry.get('time')}, after step {_words(entry.get('step'))}"))
    return tuple(rows)


def version_rows(manifest: Manifest, run: Mapping[str, Any]) -> tuple[Row, ...]:
    """Returns the versions that built the artifacts, and those that trained them."""
    rows = [Row(f"{name} (build)", str(version)) for name, version in manifest.versions.items()]
    return (*rows, *(Row(f"{name} (training)", str(v)) for name, v in _mapping(run.get("versions")).items()))


def data_files(run: Mapping[str, Any]) -> tuple[FileFacts, ...]:
    """Returns the files of the data, as far as the record of the run names them; of many, the first 20 of each kind."""
    found = []
    for key, role in _ROLES.items():
        described = _mapping(run.get(key))
        files = [_mapping(entry) for entry in _list(described.get("files"))]
        for entry in files[:MOST_FILES]:
            size, digest = entry.get("bytes"), entry.get("sha256")
            name = PurePath(str(entry.get("path", ""))).name
            known = isinstance(size, int) and not isinstance(size, bool)
            found.append(FileFacts(role, name, size if known else None, digest if isinstance(digest, str) else None))
        if len(files) > MOST_FILES:
            found.append(FileFacts(role, f"and {len(files) - MOST_FILES:,} more, in run.json", None, None))
        source = described.get("source") or described.get("where")
        if not files and source:
            found.append(FileFacts(role, PurePath(str(source)).name, None, None))
    return tuple(found)


def data_rows(run: Mapping[str, Any]) -> tuple[Row, ...]:
    """Returns how much data there was, and what was done to it."""
    rows = []
    for key, role in _ROLES.items():
        described = _mapping(run.get(key))
        counts = [f"{_words(described['samples'])} samples"] if described.get("samples") is not None else []
        if described.get("cases") is not None:
            counts.append(f"{_words(described['cases'])} cases")
        if described.get("patch") is not None:
            counts.append(f"patches of {_words(described['patch'])}, {_words(described.get('per_epoch'))} per epoch")
        if described.get("augmentation"):
            counts.append(f"varied by {_words(described['augmentation'])}")
        if counts:
            rows.append(Row(role, "; ".join(counts)))
        rows += [Row("", str(remark)) for remark in _list(described.get("remarks"))[:MOST_FILES]]
    return tuple(rows)


def recorded_scaling(run: Mapping[str, Any]) -> Optional[Scaling]:
    """Returns how the training data was scaled; None if it was not, or if the record does not say."""
    try:
        found = {
            str(name): Linear(float(entry["offset"]), float(entry["divisor"]), entry["how"], int(entry["every"]))
            for name, entry in _mapping(_mapping(run.get("data")).get("scaling")).items()
        }
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    usable = all(math.isfinite(v.offset) and math.isfinite(v.divisor) and v.divisor > 0 for v in found.values())
    return Scaling(found) if found and usable else None


def is_labelled(run: Mapping[str, Any]) -> Optional[bool]:
    """Whether the data of the vendor's own task had targets; None if the record does not say."""
    labelled = _mapping(run.get("retention")).get("labelled")
    return labelled if isinstance(labelled, bool) else None


def now() -> str:
    """Returns the time, in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(_words(item) for item in value)
    return json.dumps(value, ensure_ascii=False)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
