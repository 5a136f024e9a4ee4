"""Noise2Noise is as good as training with clean targets, on real pictures with simulated noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import tgdonnx
from tests.support.models import parse, save
from tests.support.sessions import open_session
from tgdonnx.data import DataOptions

Array = NDArray[np.float32]
WIDTH, DEPTH = 16, 5


def untrained_denoiser() -> onnx.ModelProto:
    """A small DnCNN, before any training."""
    rng = np.random.default_rng(0)
    text, weights, value = "", {}, "image"
    for index in range(DEPTH):
        shape = (1 if index == DEPTH - 1 else WIDTH, 1 if index == 0 else WIDTH, 3, 3)
        gain = 0.1 if index == DEPTH - 1 else 1.0
        weights[f"w{index}"] = (gain * np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(shape)).astype(np.float32)
        weights[f"b{index}"] = np.zeros(shape[0], np.float32)
        text += f"c{index} = Conv<pads = [1, 1, 1, 1]>({value}, w{index}, b{index})\n"
        if index < DEPTH - 1:
            text, value = f"{text} r{index} = Relu(c{index})\n", f"r{index}"
    return parse(
        f"""<ir_version: 8, opset_import: ["": 17]> dncnn (float[N, 1, H, W] image) => (float[N, 1, H, W] result) {{
            {text} result = Sub(image, c{DEPTH - 1})
        }}""",
        weights,
    )


def pictures(names: str) -> Array:
    """Pictures of scikit-image, grey, 256 x 256, of shape (N, 1, 256, 256), in [0, 1]."""
    from skimage import data, transform

    found = []
    for name in names.split():
        picture = getattr(data, name)() / 255
        grey = picture if picture.ndim == 2 else picture.mean(-1)
        found.append(transform.resize(grey[:400, :400], (256, 256), anti_aliasing=True))
    return np.stack(found)[:, np.newaxis].astype(np.float32)


def psnr(found: Array, clean: Array) -> float:
    return float((10 * np.log10(1 / np.mean((found - clean) ** 2, axis=(1, 2, 3)))).mean())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_noise2noise_is_within_a_third_of_a_decibel_of_training_with_clean_targets(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)

    def noisy(clean: Array) -> Array:
        if kind == "poisson":
            return (rng.poisson(60 * clean) / 60).astype(np.float32)
        return (clean + 0.1 * rng.standard_normal(clean.shape)).astype(np.float32)

    clean, unseen = pictures("camera brick coins moon clock"), pictures("astronaut coffee chelsea")
    a, b, test = noisy(clean), noisy(clean), noisy(unseen)
    base = save(untrained_denoiser(), tmp_path / "model.onnx")
    # The same pictures train, and the same one is held out: that in the middle.
    trained, held_out = (
        {"image": np.concatenate([a[part], b[part]]), "target": np.concatenate([clean[part], clean[part]])}
        for part in ([0, 1, 3, 4], [2])
    )
    quality = {}
    for name, data, validation in (("clean", trained, held_out), ("noise2noise", tgdonnx.Noise2Noise(a, b), None)):
        tgdonnx.finetune(
            base,
            tgdonnx.RunData(data, validation=validation, reading=DataOptions(patch=(32, 32), patches_per_epoch=1600)),
            tmp_path / f"{name}.onnx",
            tgdonnx.AllLayers(),
            tgdonnx.TrainOptions(epochs=2, batch=8, learning_rate=4e-3, schedule="cosine"),
        )
        session = open_session(tmp_path / f"{name}.onnx")
        quality[name] = psnr(session.run(None, {"image": test})[0], unseen)
    assert quality["clean"] > psnr(test, unseen) + 5  # both learned to denoise
    assert quality["noise2noise"] > quality["clean"] - 0.3
