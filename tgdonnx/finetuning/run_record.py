"""``run.json``: what a run is, written before its first step.

Format 2: one JSON object with the fields of `RunRecord`. Format 1 called ``map`` and ``augment`` of the data ``renamed`` and
``augmentation``. A reader refuses a newer format and ignores keys that it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from tgdonnx.artifacts import BuiltOptions
from tgdonnx.artifacts.manifest import RUN
from tgdonnx.data import DataOptions
from tgdonnx.data.scaling import Linear
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.typed import AtLeast0, Count, Fraction, Positive, Sha256, decode, encode, read_bytes
from tgdonnx.finetuning.acceptance import Acceptance, require_unchanged
from tgdonnx.finetuning.metrics import METRICS, metric_of
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.reports import BlendCurve

FORMAT = 2
_OF_FORMAT_1 = {"renamed": "map", "augmentation": "augment"}
_REMEDY = "delete it, and what it says is left out; or train again"


@dataclass(frozen=True)
class FileRecord:
    """A file of data: path, size, time of change (seconds since 1970), and hash where that was quick."""

    path: str
    bytes: Count
    modified: float
    sha256: Optional[Sha256]


@dataclass(frozen=True)
class ArrayRecord:
    """What an array of the first case looks like: dtype, shape and layout as stored, and the shape of a sample."""

    dtype: str
    shape: tuple[Count, ...]
    layout: str
    sample: tuple[Count, ...]


@dataclass(frozen=True)
class DataRecord:
    """What a data set is.

    Attributes:
        where: its place, in words.
        identity: a hash of what batches depend on.
        cases: files, or samples of one file.
        samples: in all.
        per_epoch: samples or patches of an epoch.
        files: those it was read from.
        arrays: by input.
        options: how it was read, cut and varied.
        scaling: of the inputs and the target.
        remarks: what was worth knowing.
        source: the path that the user gave.
    """

    where: str
    identity: str
    cases: Count
    samples: Count
    per_epoch: Count
    files: tuple[FileRecord, ...]
    arrays: Mapping[str, ArrayRecord]
    options: DataOptions
    scaling: Mapping[str, Linear]
    remarks: tuple[str, ...]
    source: Optional[str] = None


@dataclass(frozen=True)
class AgreeRecord:
    """Images to agree with the vendor on: their share of every batch, what they are, and the path that the user gave."""

    share: Fraction
    images: DataRecord
    source: Optional[str] = None


@dataclass(frozen=True)
class RetentionRecord:
    """How the vendor's own task is evaluated; see `Retention`."""

    guarded: str
    labelled: bool
    data_range: Optional[AtLeast0]


@dataclass(frozen=True)
class BuiltRecord:
    """What was built from which file: options and selection of the manifest, and the SHA-256 of the models by name."""

    options: BuiltOptions
    selection: Mapping[str, Any]
    base_sha256: Sha256
    sha256: Mapping[str, Sha256]


@dataclass(frozen=True)
class Resumption:
    """When a run went on (UTC), and from which step."""

    time: str
    step: Count


@dataclass(frozen=True)
class RunRecord:
    """What a run is.

    Attributes:
        format: version of this format.
        options: how it trains; a resumed run overwrites those that may change.
        metrics: of the validation data, as resolved; of several outputs, as in ``scores dice``.
        data_range: that psnr and ssim of the validation data are computed with.
        data: what is trained on.
        validation: what it is validated on.
        retain: data of the vendor's own task.
        agree: images to agree with the vendor on.
        retention: how the vendor's own task is evaluated.
        artifacts: what was built from which file.
        versions: of Python, the platform and packages.
        started: when (UTC).
        resumed: when and from where it went on.
        acceptance: criteria that the tuned model has to meet, as they were before the first step; None if there are none.
        blend: how the run does between its start and a checkpoint, as that was last evaluated; None if it was not.
    """

    format: Positive
    options: TrainOptions
    metrics: tuple[str, ...]
    data_range: Optional[AtLeast0]
    data: DataRecord
    validation: Optional[DataRecord]
    retain: Optional[DataRecord]
    agree: Optional[AgreeRecord]
    retention: Optional[RetentionRecord]
    artifacts: BuiltRecord
    versions: Mapping[str, str]
    started: str
    resumed: tuple[Resumption, ...]
    blend: Optional[BlendCurve] = None
    acceptance: Optional[Acceptance] = None


def read_record(directory: Path) -> Optional[RunRecord]:
    """Returns the record of the run in a directory; None if there is none.

    Raises:
        ArtifactsError: it is damaged, or of a newer format.
    """
    path = directory / RUN
    if not path.exists():
        return None
    data = read_bytes(path, remedy=_REMEDY)
    return decode(data, RunRecord, str(path), remedy=_REMEDY, newest=FORMAT, upgrade=_from_older, check=_check)


def write_blend(directory: Path, curve: BlendCurve) -> None:
    """Writes into the record of the run in a directory how it does between its start and its end.

    Raises:
        ArtifactsError: there is no record, or it is damaged.
        OutputError: it cannot be written.
    """
    record = read_record(directory)
    if record is None:
        raise ArtifactsError(f"{directory} holds no record of a run ({RUN})", remedy="train it first")
    write_bytes(directory / RUN, encode(replace(record, blend=curve), indent=1))


def data_options_of_older(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns data options, as our files of format 1 hold them, as those of format 2 do."""
    return {_OF_FORMAT_1.get(name, name): value for name, value in options.items()}


def _from_older(_: int, content: dict[str, Any]) -> dict[str, Any]:
    agree = content.get("agree")
    for data in (content["data"], content.get("validation"), content.get("retain"), agree and agree["images"]):
        if data:
            data["options"] = data_options_of_older(data["options"])
    return content


def _check(record: RunRecord) -> None:
    guarded = () if record.retention is None else (record.retention.guarded,)
    unknown = next((name for name in (*record.metrics, *guarded) if metric_of(name) not in METRICS), None)
    if unknown is not None:
        raise ValueError(f"the metric {unknown!r} is unknown")
    if record.acceptance is not None:
        require_unchanged(record.acceptance)
    if record.blend is not None:
        _check_blend(record.blend)
    described = [record.data, record.validation, record.retain, record.agree and record.agree.images]
    for data in described:
        for name, linear in data.scaling.items() if data else ():
            if not (math.isfinite(linear.offset) and linear.divisor > 0 and linear.every >= 1):
                raise ValueError(f"the scaling of {name!r} divides by {linear.divisor:g}")


def _check_blend(blend: BlendCurve) -> None:
    names = {(*point.validation, "", *point.retain) for point in blend.curve}
    if len(names) != 1 or any(point.validation.get("loss") is None for point in blend.curve):
        raise ValueError("its blends have no loss, or not the same numbers")
    if blend.chosen not in {point.blend for point in blend.curve}:
        raise ValueError(f"the blend {blend.chosen:g} was chosen, but not evaluated")
