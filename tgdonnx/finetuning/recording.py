"""What is written down of a run when it starts or goes on."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from tgdonnx.artifacts import Manifest
from tgdonnx.artifacts.manifest import MASKED_MODEL, RUN
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.typed import encode, retype
from tgdonnx.finetuning.acceptance import Acceptance
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.evaluation import Evaluator
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.retention import Retention
from tgdonnx.finetuning.run_record import (
    FORMAT,
    AgreeRecord,
    BuiltRecord,
    DataRecord,
    Resumption,
    RetentionRecord,
    RunRecord,
    read_record,
)
from tgdonnx.versions import installed_version

_PACKAGES = ("tgdonnx", "numpy", "onnx", "onnxruntime-training-cpu", "onnxruntime-training")


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
