"""``run.json``: what a run is, written before its first step.

One JSON object: ``format`` (1), ``options`` (`TrainOptions`), ``metrics`` and ``data_range`` as resolved, ``data``,
``validation``, ``retain`` and ``agree`` (``source``: the path; and what describes the data), ``artifacts`` (what was built
from which file, and the SHA-256 of the models), ``versions``, ``started`` and ``resumed`` (UTC; a resumed
run overwrites its options, as far as they may change, and adds when and from which step it went on).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from tgdonnx.artifacts import Manifest
from tgdonnx.artifacts.manifest import EVAL_MODEL, MASKED_MODEL, OPTIMIZER_MODEL, RUN, TRAINING_MODEL
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.evaluation import Evaluator
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.retention import Retention
from tgdonnx.modelfile import write_bytes

_PACKAGES = ("tgdonnx", "numpy", "onnx", "onnxruntime-training-cpu", "onnxruntime-training")


def write_record(
    directory: Path,
    manifest: Manifest,
    options: TrainOptions,
    sources: Mapping[str, object],
    training: Samples,
    validation: Optional[Evaluator],
    retention: Optional[Retention],
    step: Optional[int],
) -> None:
    """Writes the record of a run into its directory.

    Args:
        directory: the artifacts directory.
        manifest: of the artifacts.
        options: how to train.
        sources: what ``data``, ``validation``, ``retain`` and ``agree`` were given as; files are named in the record.
        training: what is trained on.
        validation: how the validation data is evaluated.
        retention: how the vendor's own task is.
        step: the step that the run goes on from; None if it starts.

    Raises:
        OutputError: it cannot be written.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    before = {} if step is None else read_record(directory) or {}
    trained = dict(training.describe())
    agreement = trained.pop("agreement", None)
    described = {
        "data": trained,
        "validation": validation.dataset.describe() if validation else None,
        "retain": retention.dataset.describe() if retention else None,
        "agree": agreement,
    }
    models = (TRAINING_MODEL, EVAL_MODEL, OPTIMIZER_MODEL, MASKED_MODEL)
    record = {
        "format": 1,
        "options": asdict(options),
        "metrics": list(validation.metrics) if validation else [],
        "data_range": validation.data_range if validation else None,
        **{name: what and {"source": _source(sources.get(name)), **what} for name, what in described.items()},
        "retention": retention
        and {"guarded": retention.guarded, "labelled": retention.labelled, "data_range": retention.data_range},
        "artifacts": {
            "options": dict(manifest.options),
            "selection": dict(manifest.selection),
            "base_sha256": manifest.base_sha256,
            "sha256": {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in models},
        },
        "versions": {"python": platform.python_version(), "platform": platform.platform(), **_versions()},
        "started": before.get("started", now),
        "resumed": [*before.get("resumed", []), *([] if step is None else [{"time": now, "step": step}])],
    }
    write_bytes(directory / RUN, (json.dumps(record, indent=1) + "\n").encode())


def read_record(directory: Path) -> Optional[dict[str, Any]]:
    """Returns the record of the run in a directory; None if there is none that can be read."""
    try:
        content: dict[str, Any] = json.loads((directory / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _source(source: object) -> Optional[str]:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
