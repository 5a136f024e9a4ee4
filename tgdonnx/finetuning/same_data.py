"""What differs between the data that a run was started with and what it shall go on with, as far as its record tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from tgdonnx.data import DataOptions
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.typed import retype
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.run_record import AgreeRecord, DataRecord, FileRecord, RunRecord

_SHOWN = 3


def other_data(record: Optional[RunRecord], training: Samples) -> ArtifactsError:
    """Returns the error that says that a run was started with other data, and what differs.

    Args:
        record: of the run; None if it is gone.
        training: what it shall go on with, whose hash is another.
    """
    if record is None:
        return ArtifactsError("the run was started with other data", remedy="resume it with the same data and options")
    described = dict(training.describe())
    agreement = described.pop("agreement", None)
    found = [*_differences(record.data, retype(described, DataRecord))]
    found += _of_images(record.agree, None if agreement is None else retype(agreement, AgreeRecord))
    if not found:
        version = record.versions.get("tgdonnx", "unknown")
        return ArtifactsError(
            "the run was started with other data: files and options are the same, but not their order, labels or other arrays, "
            f"or it was started by another version (tgdonnx {version}) that counted it differently",
            remedy="resume it with the same data and version, or build again",
        )
    return ArtifactsError(
        f"the run was started with other data: {'; '.join(found)}", remedy="resume it with the same data and options"
    )


def _differences(was: DataRecord, now: DataRecord) -> Iterator[str]:
    for field in fields(DataOptions):
        before, after = getattr(was.options, field.name), getattr(now.options, field.name)
        if before != after:
            yield f"{_said(field.name, before)}, now {_said(field.name, after)}"
    files = [*_of_files(was.files, now.files)]
    yield from files
    for name in () if files else sorted({*was.arrays, *now.arrays}):
        before, after = was.arrays.get(name), now.arrays.get(name)
        if before != after:
            shapes = [f"{each.dtype} {list(each.shape)}" if each else "nothing" for each in (before, after)]
            yield f"{name!r} was {shapes[0]}, is {shapes[1]} now"


def _of_files(was: Sequence[FileRecord], now: Sequence[FileRecord]) -> Iterator[str]:
    known = [{key_of(file): Path(file.path).name for file in files} for files in (was, now)]
    gone = {name for key, name in known[0].items() if key not in known[1]}
    new = {name for key, name in known[1].items() if key not in known[0]}
    for what, names in (("changed", gone & new), ("not there now", gone - new), ("new", new - gone)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            yield f"{what}: {', '.join(sorted(names)[:_SHOWN])}{more}"


def key_of(file: FileRecord) -> object:
    """Returns by what a file is known again: its hash, or where that was not quick name, size and time of change."""
    return file.sha256 or (Path(file.path).name, file.bytes, file.modified)


def _of_images(was: Optional[AgreeRecord], now: Optional[AgreeRecord]) -> Iterator[str]:
    if was is None or now is None:
        if was is not now:
            yield "images to agree on (`agree`) then, none now" if was else "no images to agree on (`agree`), some now"
        return
    if was.share != now.share:
        yield f"`agree_share={was.share:g}`, now `agree_share={now.share:g}`"
    yield from (f"images to agree on: {each}" for each in _differences(was.images, now.images))


def _said(name: str, value: Any) -> str:
    default = getattr(DataOptions(), name)
    if value == default:
        return f"no `{name}`"
    said = f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
    return f"`{said}`"
