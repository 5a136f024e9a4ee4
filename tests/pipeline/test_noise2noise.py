"""What is known of a model that was trained on two noisy images: on what was held out of them, or on clean images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.reporting.pages import section
from tests.reporting.parsing import parse_page
from tests.support import models
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx.errors import DataError

NETWORK = """g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w, b) r = Relu(a) y = Conv<pads = [1, 1, 1, 1]>(r, v)
}"""
HELD_OUT = slice(4, 6)  # of 10 pictures a fifth, from the middle


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two noisy images of ten smooth pictures, and these."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :10] / 10
    clean = np.stack([np.sin(3 * x + n) + np.cos(4 * y - n) for n in range(10)])[:, None].astype(np.float32)
    noisy = [clean + 0.5 * rng.standard_normal(clean.shape).astype(np.float32) for _ in range(2)]
    return noisy[0], noisy[1], clean


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(text_model(NETWORK, w=(6, 1, 3, 3), b=(6,), v=(1, 6, 3, 3)), tmp_path / "vendor.onnx")


def criteria(folder: Path, *given: dict[str, Any]) -> Path:
    (folder / "criteria.json").write_text(json.dumps({"format": 1, "criteria": given}))
    return folder / "criteria.json"


def finetune(folder: Path, path: Path, data: Any, **results: Any) -> tgdonnx.FinetuneReport:
    return tgdonnx.finetune(
        folder / "vendor.onnx",
        data,
        folder / "tuned.onnx",
        tgdonnx.AllLayers(),
        tgdonnx.TrainOptions(epochs=4, batch=4, learning_rate=1e-2),
        results=tgdonnx.Results(acceptance=path, overwrite=True, **results),
    )


def rmse(path: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """The mean over images of the root mean square difference of outputs from targets."""
    session, found = open_session(str(path)), []
    for image, target in pairs:
        (output,) = session.run(None, {"x": image})
        found.append(np.sqrt(np.mean((output.astype(np.float64) - target) ** 2, axis=(1, 2, 3))))
    return float(np.concatenate(found).mean())


def test_both_files_are_compared_and_judged_on_what_was_held_out(vendor: Path, tmp_path: Path) -> None:
    a, b, _ = pictures()
    pairs = [(a[HELD_OUT], b[HELD_OUT]), (b[HELD_OUT], a[HELD_OUT])]
    better = {"metric": "rmse", "direction": "at-most", "limit": -0.01, "of": "change"}
    limits = [better, {"metric": "rmse", "direction": "at-most", "limit": 0.1}]
    pair, page = tgdonnx.Noise2Noise(a, b), tmp_path / "page.html"
    report = finetune(tmp_path, criteria(tmp_path, *limits), pair, report=page)
    verdict = report.acceptance
    assert verdict is not None
    assert (verdict.passed, [each.passed for each in verdict.criteria]) == (False, [True, False])
    for each in verdict.criteria:
        assert each.cases == 4
        assert each.before == pytest.approx(rmse(vendor, pairs), rel=1e-5)
        assert each.after == pytest.approx(rmse(tmp_path / "tuned.onnx", pairs), rel=1e-5)
    root = parse_page(page)
    told = section(root, "result").text
    assert "Both files were run on the held-out part of two noisy images, 4 cases." in told
    assert "RMSE has that noise in it" in told
    rows = root.one("table", id="changes").rows()
    assert [row[0].partition(" ")[0] for row in rows[1:]] == ["RMSE", "validation"]
    assert "psnr" not in told.lower().replace("a psnr there", "")
    assert len(section(root, "pictures").all("img")) == 4 * 5
    assert finetune(tmp_path, criteria(tmp_path, better), pair).acceptance.passed  # type: ignore[union-attr]


def test_clean_images_to_validate_with_judge_and_leave_all_of_the_study_to_train_on(
    vendor: Path, tmp_path: Path
) -> None:
    a, b, clean = pictures()
    rng = np.random.default_rng(1)
    new = clean[:3] + 0.5 * rng.standard_normal(clean[:3].shape).astype(np.float32)
    data = tgdonnx.RunData(tgdonnx.Noise2Noise(a, b), validation={"x": new, "target": clean[:3]})
    gained = {"metric": "psnr", "direction": "at-least", "limit": 0.1, "of": "change"}
    report = finetune(tmp_path, criteria(tmp_path, gained), data)
    assert report.train.steps == 4 * 20 / 4
    assert report.acceptance is not None
    assert report.acceptance.passed
    span = float(clean[:3].max()) - float(clean[:3].min())
    for value, path in (
        (report.acceptance.criteria[0].before, vendor),
        (report.acceptance.criteria[0].after, tmp_path / "tuned.onnx"),
    ):
        (output,) = open_session(str(path)).run(None, {"x": new})
        errors = np.sqrt(np.mean((output.astype(np.float64) - clean[:3]) ** 2, axis=(1, 2, 3)))
        assert value == pytest.approx(np.mean(20 * np.log10(span / errors)), rel=1e-5)


def test_what_would_measure_the_noise_is_refused_before_the_first_step(vendor: Path, tmp_path: Path) -> None:
    a, b, _ = pictures()
    path = criteria(tmp_path, {"metric": "psnr", "direction": "at-least", "limit": 20})
    before = sorted(entry.name for entry in tmp_path.iterdir())
    with pytest.raises(DataError, match="psnr against a noisy image is mostly that of its noise; say rmse"):
        finetune(tmp_path, path, tgdonnx.Noise2Noise(a, b))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "run")
    with pytest.raises(DataError, match=r"are judged by `tgdonnx\.finetune` alone; use that, or pass validation data"):
        tgdonnx.train(tmp_path / "run", tgdonnx.Noise2Noise(a, b), acceptance=path)
