"""What the tests of building share: masked models, batches, and the files of each engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array
from tgdonnx.errors import TgdonnxError

BY_SCORE = tgdonnx.Phi(0.3)
MODELS = {
    "onnxruntime": ["eval.onnx", "gradients.onnx", "step.onnx", "update.onnx"],
    "onnxruntime-training": ["eval_model.onnx", "optimizer_model.onnx", "training_model.onnx"],
}
CHECKPOINT = {"onnxruntime": "state.safetensors", "onnxruntime-training": "checkpoint"}
FILES = {
    engine: sorted([".lock", "manifest.json", "masked.onnx", CHECKPOINT[engine], *models_])
    for engine, models_ in MODELS.items()
}
"""Of the artifacts of each engine; none needs a runtime to be written."""


def batch_for(model: onnx.ModelProto, seed: int = 0) -> tuple[Array, Array]:
    x = models.random_feeds(model, seed)["x"]
    y = NumpyNet(model).run({"x": x})[model.graph.output[0].name]
    return x, np.random.default_rng([seed, 1]).normal(size=y.shape).astype(np.float32)


def masked(model: onnx.ModelProto, directory: Path, strategy: tgdonnx.Strategy = BY_SCORE, **options: Any) -> Path:
    models.save(model, directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", strategy, tgdonnx.MaskOptions(**options))
    return directory / "masked.onnx"


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refused(
    directory: Path, path: Path, error: type[TgdonnxError], message: str, *, overwrite: bool = False, **options: Any
) -> None:
    """Building fails with the message, and leaves the directory as it was."""
    before = listing(directory)
    with pytest.raises(error, match=message) as caught:
        tgdonnx.build(path, directory / "artifacts", tgdonnx.BuildOptions(**options), overwrite=overwrite)
    assert len(str(caught.value).splitlines()) <= 2
    assert listing(directory) == before
