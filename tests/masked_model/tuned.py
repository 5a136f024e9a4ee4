"""Regrown models, tuned, and what of them may differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.support.models import Array, random_feeds
from tests.support.sessions import open_session
from tgdonnx.artifacts import read_manifest

STATISTICS = ("bn2_mean", "bn3_var")


def data_for(model: onnx.ModelProto, output: str = "y") -> dict[str, Array]:
    feeds = random_feeds(model)
    session = open_session(model)
    shape = session.run([output], feeds)[0].shape
    return {**feeds, "target": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def tune(model: onnx.ModelProto, masked: Path, tuned: Path, *, rate: float = 1e-2, **options: Any) -> Path:
    """Builds, trains three steps and exports; returns the artifacts."""
    artifacts = tuned.parent / f"{tuned.stem}-artifacts"
    tgdonnx.build(masked, artifacts, tgdonnx.BuildOptions(**options))
    run = tgdonnx.TrainOptions(steps=3, batch=2, learning_rate=rate)
    data = data_for(model, options.get("output", "y"))
    inputs = {spec.name for spec in read_manifest(artifacts).inputs}
    tgdonnx.train(artifacts, {name: array for name, array in data.items() if name in inputs}, run)
    tgdonnx.export(artifacts, tuned)
    return artifacts


def bits_differ(first: Array, second: Array) -> Array:
    a, b = (np.frombuffer(array.tobytes(), np.uint8).reshape(array.size, -1) for array in (first, second))
    return (a != b).any(axis=1).reshape(first.shape)


def element(tensor: str, place: int, change: Callable[[Any], Any]) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        found = tensors_of(model)[tensor]
        values = numpy_helper.to_array(found).copy()
        values.ravel()[place] = change(values.ravel()[place])
        found.raw_data = values.tobytes()

    return apply
