"""What is measured on validation data and on the vendor's own task, against numpy."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.support import models
from tests.support.checkpoints import CHECKPOINT
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.trainer import make_artifacts
from tests.support.training_models import text_model
from tgdonnx.errors import DataError
from tgdonnx.finetuning import RunData, TrainOptions, TrainReport, train

ONE = TrainOptions(epochs=1, batch=4, learning_rate=1e-2)


def small(output: str = "y = Conv(x, w, b)", classes: int = 2) -> onnx.ModelProto:
    """A 1x1 convolution, so that numpy can say what comes out."""
    text = f"g (float[N, 2, H, W] x) => (float[N, {classes}, H, W] y) {{ {output} }}"
    return text_model(text, w=(classes, 2, 1, 1), b=(classes,))


def logits_of(model: onnx.ModelProto, x: Array) -> Array:
    w, b = (onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer)
    return np.einsum("nchw,mc->nmhw", x, w[:, :, 0, 0]) + b[:, None, None]


def inputs(samples: int, size: tuple[int, int] = (12, 13), seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(samples, 2, *size)).astype(np.float32)


def run(model: onnx.ModelProto, folder: Path, loss: str, target: Array, x: Array, **options: Any) -> TrainReport:
    """Trains on ``x`` and validates on it; the first epoch of the report is that of the vendor's model."""
    directory = make_artifacts(model, folder, tgdonnx.AllLayers(), loss=loss)
    content = {"x": x, "target": target}
    return train(directory, RunData(content, validation=content), replace(ONE, **options))


def test_psnr_is_the_mean_over_images_with_the_range_of_the_targets(tmp_path: Path) -> None:
    model, x = small(), inputs(6)
    target = (3 * inputs(6, seed=1)).astype(np.float32)
    report = run(model, tmp_path, "mse", target, x)
    mse = np.mean((logits_of(model, x) - target) ** 2, axis=(1, 2, 3))
    data_range = float(target.max() - target.min())
    expected = np.mean(10 * np.log10(data_range**2 / mse))
    assert report.epochs[0].metrics == {"psnr": pytest.approx(expected, rel=1e-6)}
    assert report.data_range == pytest.approx(data_range)
    assert report.epochs[0].metrics["psnr"] != report.epochs[1].metrics["psnr"]


def test_metrics_are_those_that_are_asked_for_with_the_range_that_is_given(tmp_path: Path) -> None:
    model, x = small(), inputs(6)
    target = inputs(6, seed=1)
    report = run(model, tmp_path, "l1", target, x, metrics=("rmse", "psnr", "ssim"), metric_range=7.0)
    rmse = np.sqrt(np.mean((logits_of(model, x) - target) ** 2, axis=(1, 2, 3)))
    found = report.epochs[0].metrics
    assert list(found) == ["rmse", "psnr", "ssim"]
    assert found["rmse"] == pytest.approx(rmse.mean(), rel=1e-6)
    assert found["psnr"] == pytest.approx(np.mean(20 * np.log10(7.0 / rmse)), rel=1e-6)
    assert -1 < (found["ssim"] or 9) < 0.9


def test_cross_entropy_is_measured_by_accuracy_and_dice_of_the_largest_output(tmp_path: Path) -> None:
    model, x = small(classes=3), inputs(6)
    target = np.random.default_rng(2).integers(0, 3, (6, 12, 13))
    report = run(model, tmp_path, "ce", target, x)
    found = logits_of(model, x).argmax(axis=1)
    assert report.epochs[0].metrics["accuracy"] == pytest.approx(np.mean(found == target), rel=1e-12)
    dice = [
        np.mean([2 * ((a == c) & (b == c)).sum() / ((a == c).sum() + (b == c).sum()) for c in range(3)])
        for a, b in zip(found, target)
    ]
    assert report.epochs[0].metrics["dice"] == pytest.approx(np.mean(dice), rel=1e-12)
    assert report.data_range is None


@pytest.mark.parametrize("output", ["y = Conv(x, w, b)", "a = Conv(x, w, b) y = Sigmoid(a)"])
def test_binary_cross_entropy_is_measured_at_probability_one_half_whether_logits_come_out_or_probabilities(
    output: str, tmp_path: Path
) -> None:
    model, x = small(output), inputs(6)
    target = np.random.default_rng(2).integers(0, 2, (6, 2, 12, 13)).astype(np.float32)
    report = run(model, tmp_path, "bce", target, x)
    found, wanted = logits_of(model, x) > 0, target > 0.5
    overlap, sizes = (found & wanted).sum((1, 2, 3)), found.sum((1, 2, 3)) + wanted.sum((1, 2, 3))
    assert report.epochs[0].metrics == {
        "dice": pytest.approx(np.mean(2 * overlap / sizes), rel=1e-12),
        "accuracy": pytest.approx(np.mean(found == wanted), rel=1e-12),
    }


def test_a_perfect_output_has_no_psnr_that_json_could_hold(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) { y = Conv(x, w) }", w=np.ones((1, 1, 1, 1), np.float32)
    )
    x = np.arange(16, dtype=np.float32).reshape(4, 1, 2, 2)
    report = run(model, tmp_path, "mse", x, x)
    assert report.epochs[0].metrics == {"psnr": None}


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            np.zeros((6, 2, 12, 13), np.float32),
            {},
            "all targets are 0, so psnr and ssim have no range; give `metric_range`",
        ),
        (np.zeros((6, 2, 12, 13), np.float32), {"metrics": ("dice",)}, "dice does not suit this loss"),
    ],
)
def test_metrics_that_have_no_meaning_are_refused(
    target: Array, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        run(small(), tmp_path, "mse", target, inputs(6), **options)


# The vendor's own task.


def vendor_and_tuned(directory: Path, x: Array) -> tuple[Array, Array]:
    outputs = []
    tgdonnx.export(directory, directory.parent / "tuned.onnx", checkpoint=CHECKPOINT)
    for path in (directory.parent / "model.onnx", directory.parent / "tuned.onnx"):
        outputs.append(open_session(path).run(None, {"x": x})[0])
    return outputs[0], outputs[1]


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_without_targets_agreement_with_the_vendors_outputs_is_measured(form: str, tmp_path: Path) -> None:
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), form=form)
    rng = np.random.default_rng(0)
    x, old = (rng.normal(size=(6, 3, 12, 13)).astype(np.float32) for _ in range(2))
    report = train(directory, RunData({"x": x, "target": x}, retain={"x": old}), ONE)
    before, after = report.epochs[0].retain, report.epochs[-1].retain
    assert list(before) == ["ssim", "rmse"]
    vendor, tuned = vendor_and_tuned(directory, old)
    scale = float(np.abs(vendor).max())
    assert before["ssim"] == pytest.approx(1.0, abs=1e-6)
    assert before["rmse"] == pytest.approx(0.0, abs=1e-6 * scale)
    rmse = np.sqrt(np.mean((vendor.astype(np.float64) - tuned) ** 2, axis=(1, 2, 3))).mean()
    assert rmse > 1e-4 * scale
    assert after["rmse"] == pytest.approx(rmse, rel=1e-3)
    assert (after["ssim"] or 0) < 1 - 1e-7


def test_agreement_is_with_the_vendor_after_a_resume_too(tmp_path: Path) -> None:
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3))
    other = Path(shutil.copytree(directory, tmp_path / "other"))
    x = np.random.default_rng(0).normal(size=(6, 3, 12, 13)).astype(np.float32)
    whole = train(other, RunData({"x": x, "target": x}, retain={"x": x}), replace(ONE, epochs=3))
    train(directory, RunData({"x": x, "target": x}, retain={"x": x}), ONE)
    resumed = train(directory, RunData({"x": x, "target": x}, retain={"x": x}), replace(ONE, epochs=3), resume=True)
    assert [epoch.retain for epoch in resumed.epochs] == [epoch.retain for epoch in whole.epochs]


def test_with_targets_the_vendors_own_task_is_measured(tmp_path: Path) -> None:
    model, x, old = small(), inputs(6), inputs(5, (9, 8), seed=3)
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers())
    target = (logits_of(model, old) + 0.1).astype(np.float32)
    report = train(directory, RunData({"x": x, "target": x}, retain={"x": old, "target": target}), ONE)
    expected = 20 * math.log10((target.max() - target.min()) / 0.1)
    assert report.epochs[0].retain == {"psnr": pytest.approx(expected, rel=1e-5)}
    assert (report.epochs[1].retain["psnr"] or 0) < expected - 0.01
    assert report.epochs[0].validation is None


def test_images_too_small_for_ssim_are_compared_by_rmse(tmp_path: Path) -> None:
    directory = make_artifacts(small(), tmp_path, tgdonnx.AllLayers())
    report = train(directory, RunData({"x": inputs(4), "target": inputs(4)}, retain={"x": inputs(4, (9, 20))}), ONE)
    assert list(report.epochs[0].retain) == ["rmse"]


def test_classes_are_compared_with_the_classes_of_the_vendor(tmp_path: Path) -> None:
    directory = make_artifacts(small(classes=3), tmp_path, tgdonnx.AllLayers(), loss="ce")
    x, target = inputs(6), np.random.default_rng(2).integers(0, 3, (6, 12, 13))
    report = train(directory, RunData({"x": x, "target": target}, retain={"x": x}), replace(ONE, learning_rate=0.3))
    assert report.epochs[0].retain == {"accuracy": 1.0, "dice": 1.0}
    vendor, tuned = vendor_and_tuned(directory, x)
    agreement = np.mean(vendor.argmax(1) == tuned.argmax(1))
    assert agreement < 1
    assert report.epochs[1].retain["accuracy"] == pytest.approx(agreement, abs=1e-9)


def test_psnr_of_the_vendor_against_itself_is_refused_as_a_guard(tmp_path: Path) -> None:
    directory = make_artifacts(small(), tmp_path, tgdonnx.AllLayers())
    with pytest.raises(DataError, match=r"against themselves is infinite.* put ssim or rmse before it"):
        train(
            directory,
            RunData({"x": inputs(4), "target": inputs(4)}, retain={"x": inputs(4)}),
            replace(ONE, metrics=("psnr",)),
        )


def test_data_to_retain_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    directory = make_artifacts(small(), tmp_path, tgdonnx.AllLayers())
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for retain, message in (
        ({"image": inputs(4), "other": inputs(4)}, "no array 'x'"),
        ({"x": inputs(4)[:, :1]}, "expected 'x' to be float32"),
        ({"x": inputs(4), "target": inputs(4)[:, :, 1:]}, "does not fit the output"),
    ):
        with pytest.raises(DataError, match=message):
            train(directory, RunData({"x": inputs(4), "target": inputs(4)}, retain=retain), ONE)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
