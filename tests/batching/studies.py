"""A vendor's model and many small studies for it, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tgdonnx
from tests.support import models
from tgdonnx.batching import BatchJob, JobResult

TRAINING = tgdonnx.TrainOptions(steps=3, batch=2, learning_rate=1e-3)


def save_study(path: Path, seed: int, channels: int = 3) -> Path:
    rng = np.random.default_rng(seed)
    x, target = (rng.standard_normal((4, size, 7, 8)).astype(np.float32) for size in (channels, 3))
    np.savez(path, x=x, target=target)
    return path


def jobs_in(directory: Path, count: int = 3, **changes: Any) -> list[BatchJob]:
    """Makes a model and studies, and returns a job for each; ``changes`` are of all jobs."""
    model = directory / "vendor.onnx"
    if not model.exists():
        models.save(models.dncnn(0), model)
    job = BatchJob("", model, model, tgdonnx.LastLayers(2), TRAINING)
    return [
        replace(job, name=f"p{i}", data=save_study(directory / f"p{i}.npz", i), **changes) for i in range(1, count + 1)
    ]


def states(report: tgdonnx.BatchReport) -> Mapping[str, str]:
    return {each.name: each.state for each in report.jobs}


def by_name(report: tgdonnx.BatchReport) -> Mapping[str, JobResult]:
    return {each.name: each for each in report.jobs}


def files_in(directory: Path) -> dict[str, tuple[int, int]]:
    """Returns size and time of change of all files."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}
