"""Folders of pictures: pairs, and a folder per class. Losses are Python's, and the record says how pictures were prepared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

import tgdonnx
from tests.browser.order import batches
from tests.browser.tab import Tab
from tests.support import models
from tgdonnx.engines.onnxruntime.session import StepSession
from tgdonnx.engines.onnxruntime.state import STATE

pytestmark = pytest.mark.chromium

STEPS, BATCH, SIDE = 12, 2, 16


def built(model: onnx.ModelProto, directory: Path, loss: str) -> Path:
    vendor = models.save(model, directory / "vendor.onnx")
    tgdonnx.mask(vendor, directory / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(directory / "masked.onnx", directory / "artifacts", tgdonnx.BuildOptions(loss=loss))
    return vendor


def losses_of(
    artifacts: Path, x: NDArray[np.float32], target: NDArray[np.generic], chosen: list[list[int]]
) -> list[float]:
    manifest = json.loads((artifacts / "manifest.json").read_text())
    names = [[entry["name"] for entry in manifest[key]] for key in ("inputs", "trained")]
    session = StepSession(artifacts, STATE, *names)
    return [float(session.step([[x[rows], target[rows]]], 1e-3)[0]) for rows in chosen]


def record_of(path: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads(onnx.load(path).metadata_props[-1].value)
    return record


def test_pairs_in_two_folders_train_as_in_python(tab: Tab, tmp_path: Path) -> None:
    vendor = built(models.dncnn(3), tmp_path, "mse")
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (7, 2, SIDE, SIDE, 3)).astype(np.uint8)
    for case, pair in enumerate(values):
        split = "train" if case < 5 else "validation"
        for folder, picture in zip(("noisy", "clean"), pair):
            (tmp_path / "pairs" / split / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / "pairs" / split / folder / f"{case}.png")
    tab.give("artifacts-folder", tmp_path / "artifacts")
    tab.set(size=SIDE)
    tab.give("data-folder", tmp_path / "pairs")
    assert "5 pairs of pictures to train on, in patches of 16 x 16; 2 held out" in tab.said()["data-told"]
    tab.set(steps=STEPS, batch=BATCH, rate=1e-3, seed=1)
    tab.train()
    (run,) = tab.kept()
    scaled = (values / 255).astype(np.float32).transpose(1, 0, 4, 2, 3)
    chosen = batches(list(range(5)), BATCH, 1, STEPS)
    np.testing.assert_allclose(run["losses"], losses_of(tmp_path / "artifacts", *scaled, chosen), rtol=1e-5)
    assert tab.evaluate("document.querySelectorAll('#pictures canvas').length") == 2 * 4
    (tmp_path / "tuned.onnx").write_bytes(tab.save("save-tuned"))
    assert tgdonnx.verify(vendor, tmp_path / "tuned.onnx").ok
    divided = {"offset": 0.0, "divisor": 255.0, "how": 255.0}
    assert record_of(tmp_path / "tuned.onnx")["preparation"] == {
        "scaling": {"x": divided, "target": divided},
        "colour": "rgb",
    }


def classifier() -> onnx.ModelProto:
    rng = np.random.default_rng(2)
    return models.parse(
        """<ir_version: 8, opset_import: ["": 17]>
        classifier (float[N, 1, 16, 16] x) => (float[N, 3] scores) {
            t = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1, b1)
            a = Relu(t)
            p = GlobalAveragePool(a)
            f = Flatten(p)
            scores = Gemm<transB = 1>(f, w2, b2)
        }""",
        {
            "w1": models.conv_weight(rng, 6, 1, 3, 3),
            "b1": models.bias(rng, 6),
            "w2": rng.standard_normal((3, 6)).astype(np.float32),
            "b2": models.bias(rng, 3),
        },
    )


def test_a_folder_per_class_trains_as_in_python(tab: Tab, tmp_path: Path) -> None:
    vendor = built(classifier(), tmp_path, "ce")
    rng = np.random.default_rng(1)
    classes, pictures, labels = ["2", "10", "ant"], [], []
    for label, name in enumerate(classes):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for case in range(4):
            picture = rng.integers(60 * label, 60 * label + 100, (SIDE, SIDE)).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "classes" / name / f"{case}.png")
            pictures.append(picture)
            labels.append((f"{name}/{case}.png", label))
    # The page reads files in the order of their paths.
    order = sorted(range(len(labels)), key=lambda place: labels[place][0])
    x = (np.stack(pictures)[order, None] / 255).astype(np.float32)
    target = np.array([labels[place][1] for place in order], np.int64)
    tab.give("artifacts-folder", tmp_path / "artifacts")
    tab.set(held_out=3)
    tab.give("data-folder", tmp_path / "classes")
    assert "9 pictures of 3 classes to train on, 3 held out, each 16 x 16" in tab.said()["data-told"]
    tab.set(steps=STEPS, batch=BATCH, rate=1e-3, seed=2)
    tab.train()
    (run,) = tab.kept()
    held = [3, 7, 11]
    chosen = batches([i for i in range(12) if i not in held], BATCH, 2, STEPS)
    np.testing.assert_allclose(run["losses"], losses_of(tmp_path / "artifacts", x, target, chosen), rtol=1e-5)
    assert tab.said()["metric-name"] == "accuracy"
    (tmp_path / "tuned.onnx").write_bytes(tab.save("save-tuned"))
    report = tgdonnx.verify(vendor, tmp_path / "tuned.onnx")
    assert report.ok, report.violations
    record = record_of(tmp_path / "tuned.onnx")
    assert record["classes"] == classes
    assert record["preparation"] == {
        "scaling": {"x": {"offset": 0.0, "divisor": 255.0, "how": 255.0}},
        "resize": [16],
        "crop": [16, 16],
        "colour": "grey",
    }
    # What the record says is what `apply` does: its probabilities are those of the tuned file on pictures prepared by hand.
    result = tgdonnx.apply(tmp_path / "tuned.onnx", tmp_path / "classes", tmp_path / "found.csv")
    assert result is not None
    lines = (tmp_path / "found.csv").read_text().splitlines()
    assert len(lines) == 1 + 12
