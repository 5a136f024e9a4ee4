"""What the page of a run tells of its data: patches, scaling, and data beside the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.reporting.pages import made, section, sha256
from tests.reporting.parsing import parse_page
from tests.reporting.runs import pairs, trained
from tests.support import models
from tests.support.checkpoints import CHECKPOINT
from tgdonnx.data import DataOptions


def test_patches_augmentation_and_images_to_agree_on_of_a_real_run_are_shown(tmp_path: Path) -> None:
    reading = DataOptions(patch=(8, 6), patches_per_epoch=9, augment=("flips",))
    agree = {"x": pairs(samples=4, seed=3)["x"]}
    trained(tmp_path, data={"reading": reading, "agree": agree}, report=tmp_path / "page.html")
    asked = section(parse_page(tmp_path / "page.html"), "asked").rows()
    found = {row[0]: row[1] for row in asked}
    assert found["training data"] == "6 samples; 1 cases; patches of 8, 6, 9 per epoch; varied by flips"
    assert found["images to agree with the vendor on"].startswith("4 samples; 1 cases; patches of 8, 6, ")
    assert found["validation data"].startswith("6 samples; 1 cases; patches of 8, 6, ")
    assert "varied" not in found["validation data"]


def test_samples_are_scaled_as_the_training_data_was(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    rng = np.random.default_rng(0)
    stored = {name: rng.integers(0, 200, (6, 3, 12, 10)).astype(np.uint8) for name in ("x", "target")}
    stored["x"][0, 0, 0, 0], stored["x"][0, 0, 0, 1] = 0, 200
    options, scaled = tgdonnx.TrainOptions(epochs=1, batch=6), DataOptions(scale="minmax")
    kept, page = tmp_path / "artifacts", tmp_path / "page.html"
    tgdonnx.finetune(
        base,
        tgdonnx.RunData(stored, reading=scaled),
        tmp_path / "t.onnx",
        tgdonnx.Phi(0.3),
        options,
        results=tgdonnx.Results(artifacts=kept, report=page),
    )
    brighter = {name: array // 4 for name, array in stored.items()}  # by itself it would be scaled otherwise
    for data in (stored, brighter):
        tgdonnx.report(kept, page, data=data, reading=scaled, overwrite=True)
        target = section(parse_page(page), "pictures").all("figure")[4].one("small").text
        low, high = np.percentile(data["target"][0, 1] / 200, (0.5, 99.5))
        assert [float(value) for value in target.split(" to ")] == pytest.approx([low, high], rel=1e-3)


def test_external_data_is_copied_hashed_and_verified(tmp_path: Path) -> None:
    vendor, tuned = tmp_path / "vendor", tmp_path / "tuned"
    vendor.mkdir()
    tuned.mkdir()
    onnx.save(
        models.dncnn(0), vendor / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    options = tgdonnx.TrainOptions(epochs=1, batch=6)
    kept = tmp_path / "artifacts"
    tgdonnx.finetune(
        vendor / "model.onnx",
        pairs(),
        tuned / "t.onnx",
        tgdonnx.Phi(0.3),
        options,
        results=tgdonnx.Results(artifacts=kept),
    )
    page = made(tmp_path, model=vendor / "model.onnx", tuned=tuned / "t.onnx", data=pairs())
    rows = [row[1] for row in section(page, "files").rows() if row[0] == "its external data"]
    assert rows == [f"weights.bin{sha256(vendor / 'weights.bin')}", f"t.onnx.data{sha256(tuned / 't.onnx.data')}"]
    assert rows[0] != rows[1]
    assert f"is, byte by byte, what {CHECKPOINT} gives" in section(page, "files").text
    assert page.one("div", id="verdict").text.startswith("Verified")
    values = bytearray((tuned / "t.onnx.data").read_bytes())
    values[-1] ^= 1
    (tuned / "t.onnx.data").write_bytes(values)
    page = made(tmp_path, tuned=tuned / "t.onnx")
    assert f"is not what {CHECKPOINT} gives now" in section(page, "files").text
    assert page.one("div", id="verdict").text.startswith("Not verified")
