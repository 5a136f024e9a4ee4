"""What a session does with the arrays that it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tgdonnx
from tests.support import models
from tgdonnx.finetuning.session import Session


def test_arrays_that_lie_in_another_order_are_the_same_batch(tmp_path: Path) -> None:
    models.save(models.dncnn(0), tmp_path / "model.onnx")
    tgdonnx.mask(tmp_path / "model.onnx", tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "run", tgdonnx.BuildOptions(engine="onnxruntime"))
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 48)).astype(np.float32)
    plain = [x, x / 2]
    turned = [np.asfortranarray(array) for array in plain]
    one, other = Session(tmp_path / "run"), Session(tmp_path / "run")
    assert one.evaluate(plain).loss == other.evaluate(turned).loss
    for count in (1, 2):
        assert one.step([plain] * count, 1e-3) == other.step([turned] * count, 1e-3)
