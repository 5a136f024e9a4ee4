"""Every loss on both engines: the same losses and the same weights after the same steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.support.models import Array, save
from tests.support.training_models import text_model
from tgdonnx.artifacts.losses import LOSSES, parse_loss
from tgdonnx.engines import ENGINES
from tgdonnx.finetuning.session import Session

NETWORK = "g (float[N, 2, H, W] x) => (float[N, 3, H, W] y) { y = Conv(x, w, b) }"
PARAMETERS = {
    "mse": "(weight=m)",
    "huber": "(delta=0.2)",
    "pinball": "(q=0.9)",
    "focal": "(gamma=1.5,alpha=0.25)",
    "dice": "(smooth=0.1)",
    "ce": "(ignore=255,class_weights=[1,2,0.5],smoothing=0.1)",
    "class_focal": "(ignore=255)",
    "class_dice": "(ignore=255)",
}
RNG = np.random.default_rng(1)
X = RNG.normal(size=(4, 2, 12, 13)).astype(np.float32)
LABELS = np.where(RNG.uniform(size=(4, 12, 13)) > 0.3, RNG.integers(0, 3, (4, 12, 13)), 255)


def target_of(loss: str) -> Array:
    if parse_loss(loss).targets == "classes":
        return LABELS if "ignore" in loss else LABELS % 3
    return RNG.uniform(size=(4, 3, 12, 13)).astype(np.float32)


@pytest.mark.training
@pytest.mark.parametrize("name", LOSSES)
def test_both_engines_minimise_the_same(name: str, tmp_path: Path) -> None:
    loss = name + PARAMETERS.get(name, "")
    batch = [X, target_of(loss)]
    if "weight=m" in loss:
        batch.append((RNG.uniform(size=(4, 1, 12, 13)) > 0.4).astype(np.float32))
    save(text_model(NETWORK, w=(3, 2, 1, 1), b=(3,)), tmp_path / "model.onnx")
    tgdonnx.mask(tmp_path / "model.onnx", tmp_path / "masked.onnx", tgdonnx.AllLayers())
    found = {}
    for engine in ENGINES:
        directory = tmp_path / engine
        tgdonnx.build(tmp_path / "masked.onnx", directory, tgdonnx.BuildOptions(loss=loss, engine=engine))
        session = Session(directory)
        found[engine] = [session.step([batch], 0.02)[0] for _ in range(3)] + [session.evaluate(batch).loss]
    first, second = found.values()
    assert first == pytest.approx(second, rel=2e-5)
    assert first[-1] < first[0]
