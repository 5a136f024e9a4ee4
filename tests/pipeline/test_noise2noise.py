"""What is known of a model that was trained on two noisy images: on what was held out of them, or on clean images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.reporting.pages import section
from tests.reporting.parsing import parse_page
from tests.support import models
from tests.support.checkpoints import BEST
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tests.support.tuning import PHI, listing, options_for
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError, OutputError, TgdonnxError

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


def noisy_pair(shape: tuple[int, ...], seed: int = 0) -> tuple[Any, Any]:
    """Two noisy images of one smooth study."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.linspace(0, 3, size) for size in shape), indexing="ij")
    clean = np.sin(sum(grid * (axis + 1) for axis, grid in enumerate(grids)))
    return tuple((clean + 0.3 * rng.standard_normal(shape)).astype(np.float32) for _ in range(2))


def test_noise2noise_trains_without_targets_and_applies_the_result_to_all_counts(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    a, b = noisy_pair((15, 24, 20))
    full = (a + b) / 2
    said: list[str] = []
    report = tgdonnx.finetune(
        base,
        tgdonnx.RunData(tgdonnx.Noise2Noise(a, b), reading=DataOptions(layout="DHW")),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        tgdonnx.TrainOptions(epochs=3, batch=4, learning_rate=1e-3),
        results=tgdonnx.Results(apply=full),
        watch=tgdonnx.Watch(on_remark=said.append),
    )
    assert "trained from A to B and from B to A" in said
    assert "held out against fitting noise: slices 7 to 9 of 15" in said
    assert report.verify.ok
    # (15 - 3) slices, both ways, in batches of 4.
    assert report.train.steps == 3 * 6
    assert report.train.best.loss is not None
    assert report.train.epochs[0].validation is not None
    assert report.train.best.loss < report.train.epochs[0].validation
    assert report.apply is not None
    assert report.apply.output == str(tmp_path / "tuned.applied.npy")
    again = tgdonnx.apply(tmp_path / "tuned.onnx", full, tmp_path / "again.npy", reading=DataOptions(layout="DHW"))
    assert again.shape == full.shape
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "tuned.applied.npy").read_bytes()


def test_what_noise2noise_cannot_train_or_apply_is_refused_before_training(tmp_path: Path, scratch: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    a, b = noisy_pair((15, 24, 20))
    (tmp_path / "taken.npy").write_bytes(b"")
    told = listing(tmp_path)

    def refuse(message: str, error: type[TgdonnxError], pair: tgdonnx.Noise2Noise, **options: Any) -> None:
        with pytest.raises(error, match=message):
            tgdonnx.finetune(
                base,
                tgdonnx.RunData(pair, reading=DataOptions(layout="DHW")),
                tmp_path / "tuned.onnx",
                tgdonnx.Phi(PHI),
                options_for(),
                results=tgdonnx.Results(**options),
                watch=tgdonnx.Watch(on_progress=lambda _: pytest.fail("trained")),
            )
        assert listing(tmp_path) == told
        assert listing(scratch) == []

    pair = tgdonnx.Noise2Noise(a, b)
    refuse("exists", OutputError, pair, apply=a, applied=tmp_path / "taken.npy")
    refuse("expected 'x' to be float32", DataError, pair, apply=a.astype(np.float64))
    refuse("nothing to apply the tuned model to", DataError, pair, applied=tmp_path / "out.npy")
    refuse("are the same image", DataError, tgdonnx.Noise2Noise(a, a))


def wide_network(width: int = 32) -> onnx.ModelProto:
    """Learns small pictures by heart."""
    rng = np.random.default_rng(5)
    shapes = {"w1": (width, 1, 3, 3), "w2": (width, width, 3, 3), "w3": (1, width, 3, 3)}
    weights = {name: rng.standard_normal(s) * np.sqrt(2 / np.prod(s[1:])) for name, s in shapes.items()}
    weights["w3"] *= 0.1
    return models.parse(
        """<ir_version: 8, opset_import: ["": 17]> wide (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w1) b = Relu(a)
            c = Conv<pads = [1, 1, 1, 1]>(b, w2) d = Relu(c)
            y = Conv<pads = [1, 1, 1, 1]>(d, w3)
        }""",
        {name: weight.astype(np.float32) for name, weight in weights.items()},
    )


def test_the_guard_keeps_what_was_learned_before_noise_was_fitted(tmp_path: Path) -> None:
    # Few small pictures of nothing but noise, and all weights free: what can be learned is the noise, by heart.
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((10, 1, 6, 6)).astype(np.float32) for _ in range(2))
    base = models.save(wide_network(), tmp_path / "model.onnx")

    def tuned(name: str, patience: Optional[int]) -> tgdonnx.FinetuneReport:
        return tgdonnx.finetune(
            base,
            tgdonnx.Noise2Noise(a, b),
            tmp_path / name,
            tgdonnx.AllLayers(),
            tgdonnx.TrainOptions(epochs=100, batch=4, learning_rate=3e-3, patience=patience),
        )

    guarded = tuned("guarded.onnx", None)
    assert guarded.train.stop.rule == "patience"
    assert guarded.train.steps < 100 * 4 / 2
    # Let alone, it goes on to learn the noise, of variance 1, by heart, which the held-out pictures tell.
    alone = tuned("alone.onnx", 1000)
    held_out = [epoch.validation for epoch in alone.train.epochs if epoch.validation is not None]
    assert alone.train.stop.rule == "length"
    assert alone.train.loss[-1] < 0.2
    assert held_out[-1] > 1.3 * min(held_out)
    # Either way what there was before is kept.
    for report in (guarded, alone):
        assert report.train.best.loss == min(held_out)
        assert report.export.checkpoint == BEST


def test_the_scaling_of_training_is_that_of_what_the_model_is_applied_to(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    a, b = (200 + 50 * image for image in noisy_pair((15, 24, 20)))
    full = (a + b) / 2
    report = tgdonnx.finetune(
        base,
        tgdonnx.RunData(tgdonnx.Noise2Noise(a, b), reading=DataOptions(layout="DHW", scale="standard")),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        options_for(),
        results=tgdonnx.Results(artifacts=tmp_path / "kept", apply=full, applied=tmp_path / "out.npy"),
    )
    scaling = json.loads((tmp_path / "kept" / "run.json").read_text())["data"]["scaling"]["x"]
    # Of what was trained on: both images without the slices that are held out.
    trained = np.concatenate([image[part] for image in (a, b) for part in (slice(6), slice(9, None))]).astype(
        np.float64
    )
    assert scaling["offset"] == pytest.approx(trained.mean(), rel=1e-6)
    assert scaling["divisor"] == pytest.approx(trained.std(), rel=1e-6)
    assert report.apply is not None
    assert any("(standard)" in remark for remark in report.apply.remarks)
    assert "scaling is undone in the result" in report.apply.remarks
    scaled = ((full.astype(np.float64) - scaling["offset"]) / scaling["divisor"]).astype(np.float32)
    as_it_is = DataOptions(layout="DHW", scale=1)
    tgdonnx.apply(tmp_path / "tuned.onnx", scaled, tmp_path / "scaled.npy", reading=as_it_is)
    expected = np.load(tmp_path / "scaled.npy").astype(np.float64) * scaling["divisor"] + scaling["offset"]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5)
