"""Runs to compare: data, options, and what has to be equal."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.checkpoints import CHECKPOINT
from tests.support.models import Array
from tgdonnx.finetuning import RunData, TrainOptions, TrainReport, train
from tgdonnx.finetuning.session import read_parameters

OPTIONS = TrainOptions(epochs=3, batch=4, learning_rate=1e-2, seed=5)


def data(samples: int = 10, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 3, 6, 5)).astype(np.float32)
    return {"x": x, "target": (x + rng.normal(0, 0.1, x.shape)).astype(np.float32)}


HELD_OUT = data(5, seed=9)


def log_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def timeless(report: TrainReport) -> TrainReport:
    epochs = tuple(replace(epoch, seconds=0.0, images_per_second=None, wait=None) for epoch in report.epochs)
    return replace(report, seconds=0.0, epochs=epochs)


def same_state(a: Path, b: Path, name: str = CHECKPOINT) -> bool:
    left, right = read_parameters(a, name), read_parameters(b, name)
    assert left.keys() == right.keys()
    return all(values.tobytes() == right[key].tobytes() for key, values in left.items())


def uninterrupted(built: Path, directory: Path, options: TrainOptions = OPTIONS) -> tuple[Path, TrainReport]:
    copy = Path(shutil.copytree(built, directory / "uninterrupted"))
    return copy, train(copy, RunData(data(), validation=HELD_OUT), options)
