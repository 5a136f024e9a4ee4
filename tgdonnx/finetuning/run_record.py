"""``run.json``: what a run is, written before its first step.

Format 2: one JSON object with the fields of `RunRecord`. Format 1 called ``map`` and ``augment`` of the data ``renamed`` and
``augmentation``. A reader refuses a newer format and ignores keys that it does not know.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from tgdonnx.artifacts import BuiltOptions, Manifest
from tgdonnx.artifacts.manifest import MASKED_MODEL, RUN
from tgdonnx.data import DataOptions
from tgdonnx.data.scaling import Linear
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.typed import AtLeast0, Count, Fraction, Positive, Sha256, decode, encode, read_bytes, retype
from tgdonnx.finetuning.acceptance import Acceptance, require_unchanged
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.evaluation import Evaluator
from tgdonnx.finetuning.metrics import METRICS, metric_of
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.reports import BlendCurve
from tgdonnx.finetuning.retention import Retention
from tgdonnx.versions import installed_version

FORMAT = 2
_OF_FORMAT_1 = {"renamed": "map", "augmentation": "augment"}
_PACKAGES = ("tgdonnx", "numpy", "onnx", "onnxruntime-training-cpu", "onnxruntime-training")
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


def write_record(
    directory: Path,
    manifest: Manifest,
    options: TrainOptions,
    run_data: RunData,
    training: Samples,
    validation: Optional[Evaluator],
    retention: Optional[Retention],
    step: Optional[int],
    acceptance: Optional[Acceptance] = None,
) -> None:
    """Writes the record of a run into its directory.

    Args:
        directory: the artifacts directory.
        manifest: of the artifacts.
        options: how to train.
        run_data: what was given; files are named in the record.
        training: what is trained on.
        validation: how the validation data is evaluated.
        retention: how the vendor's own task is.
        step: the step that the run goes on from; None if it starts.
        acceptance: criteria that the tuned model has to meet; those of the run that goes on, if None.

    Raises:
        ArtifactsError: the record of the run that goes on is damaged, or has other criteria.
        OutputError: it cannot be written.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    before = None if step is None else read_record(directory)
    if before is not None:
        acceptance = _same(before.acceptance, acceptance)
    trained = dict(training.describe())
    agreement = trained.pop("agreement", None)
    agree = None if agreement is None else retype(agreement, AgreeRecord)
    models = (*manifest.runtime.models, MASKED_MODEL)
    record = RunRecord(
        format=FORMAT,
        options=options,
        metrics=validation.metrics if validation else (),
        data_range=validation.data_range if validation else None,
        data=_described(trained, run_data.data),
        validation=_validation(validation, run_data) if validation else None,
        retain=_described(retention.dataset.describe(), run_data.retain) if retention else None,
        agree=agree and replace(agree, source=_source(run_data.agree)),
        retention=RetentionRecord(retention.guarded, retention.labelled, retention.data_range) if retention else None,
        artifacts=BuiltRecord(
            manifest.options,
            manifest.selection,
            manifest.base_sha256,
            {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in models},
        ),
        versions={"python": platform.python_version(), "platform": platform.platform(), **_versions()},
        started=before.started if before else now,
        blend=before.blend if before else None,
        acceptance=acceptance,
        resumed=(*(before.resumed if before else ()), *(() if step is None else (Resumption(now, step),))),
    )
    write_bytes(directory / RUN, encode(record, indent=1))


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


def _same(before: Optional[Acceptance], now: Optional[Acceptance]) -> Optional[Acceptance]:
    """Returns the criteria of a run that goes on."""
    if now is not None and (before is None or before.sha256 != now.sha256):
        was = "without criteria" if before is None else f"with the criteria of SHA-256 {before.sha256}"
        raise ArtifactsError(
            f"the run was started {was}, and {now.file} has {now.sha256}: criteria are fixed before the first step",
            remedy="resume it without `acceptance`, or build and train again",
        )
    if now is not None and before is not None and now.groups != before.groups:
        raise ArtifactsError(
            f"the table of subgroups of {now.file} is another than the run was started with: it is fixed before the first step",
            remedy="resume it without `acceptance`, or build and train again",
        )
    return before


def _described(data: Mapping[str, Any], source: object) -> DataRecord:
    return replace(retype(data, DataRecord), source=_source(source))


def _validation(validation: Evaluator, run_data: RunData) -> DataRecord:
    data, seen = _described(validation.dataset.describe(), run_data.validation), validation.seen_in_training
    return replace(data, remarks=(seen, *data.remarks)) if seen else data


def _source(source: object) -> Optional[str]:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _versions() -> dict[str, str]:
    found = {name: installed_version(name) for name in _PACKAGES}
    return {name: version for name, version in found.items() if version is not None}
