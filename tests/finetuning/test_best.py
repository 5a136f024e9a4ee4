"""Which epoch is best: by the loss, or by what is asked for; patience and a resumed run go by the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of, same_state, timeless
from tests.support.checkpoints import BEST
from tests.support.fake_sessions import evaluated_as
from tests.support.trainer import make_artifacts
from tests.support.training_models import text_model
from tgdonnx.cli.results import result_lines
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.finetuning import RunData, TrainOptions, TrainReport, train

# The loss is lowest after the first epoch, PSNR highest after the second, RMSE lowest after the third.
FOUND = [
    (4.0, {"psnr": 20.0, "rmse": 5.0}),
    (1.0, {"psnr": 21.0, "rmse": 4.0}),
    (2.0, {"psnr": 30.0, "rmse": 3.0}),
    (3.0, {"psnr": 29.0, "rmse": 2.0}),
]


def ran(
    directory: Path, found: list[tuple[float, dict[str, Any]]], *, resume: bool = False, **options: Any
) -> TrainReport:
    with evaluated_as(found):
        return train(directory, RunData(data(), validation=HELD_OUT), replace(OPTIONS, **options), resume=resume)


@pytest.mark.parametrize(("best", "step", "value"), [("loss", 3, 1.0), ("psnr", 6, 30.0), ("rmse", 9, 2.0)])
def test_the_epoch_that_is_kept_is_the_best_by_what_is_asked_for(
    best: str, step: int, value: float, artifacts: Path
) -> None:
    report = ran(artifacts, FOUND, best=best)
    assert (report.best.step, report.best.by, report.best.value) == (step, best, value)
    assert report.best.checkpoint == BEST
    assert report.best.loss == FOUND[step // 3][0]


def test_what_is_asked_for_is_measured_besides_the_usual_metrics(artifacts: Path) -> None:
    report = train(artifacts, RunData(data(), validation=HELD_OUT), replace(OPTIONS, best="rmse"))
    values = {epoch.step: epoch.metrics["rmse"] for epoch in report.epochs}
    assert list(report.epochs[0].metrics) == ["psnr", "rmse"]
    assert report.best.step == min(values, key=lambda step: values[step] or 0)
    assert report.best.value == values[report.best.step]


def test_patience_counts_by_it_and_says_so(artifacts: Path) -> None:
    falling = [(4.0 - n, {"psnr": 20.0 + (n == 1)}) for n in range(4)]
    report = ran(artifacts, falling, best="psnr", patience=2)
    assert (report.steps, report.best.step, report.stop.rule) == (9, 3, "patience")
    assert report.stop.reason == "the last 2 validations were no better by psnr than that of step 3"


def test_an_infinite_psnr_is_the_best_there_is_and_the_first_stays(artifacts: Path) -> None:
    found = [(4.0, {"psnr": 20.0}), (3.0, {"psnr": None}), (2.0, {"psnr": 99.0}), (1.0, {"psnr": None})]
    report = ran(artifacts, found, best="psnr")
    assert (report.best.step, report.best.value) == (3, None)


def test_a_resumed_run_keeps_its_best_by_the_same_measure(built: Path, tmp_path: Path) -> None:
    whole, cut = (Path(shutil.copytree(built, tmp_path / name)) for name in ("whole", "cut"))
    expected = ran(whole, FOUND, best="psnr")
    ran(cut, FOUND, best="psnr", epochs=2)
    resumed = ran(cut, FOUND[3:], best="psnr", resume=True)
    assert timeless(resumed) == timeless(expected)
    assert same_state(whole, cut, BEST)


def test_a_run_is_not_resumed_by_another_measure(artifacts: Path) -> None:
    ran(artifacts, FOUND, best="psnr", epochs=1)
    lines = len(log_of(artifacts))
    with pytest.raises(ArtifactsError, match="the run was started with best = psnr, not None"):
        ran(artifacts, FOUND, resume=True)
    assert len(log_of(artifacts)) == lines


def test_the_end_of_a_run_says_what_was_best_by_what(artifacts: Path) -> None:
    assert "PSNR 20 -> 30 (best by PSNR, epoch 2)" in result_lines(ran(artifacts, FOUND, best="psnr"))


@pytest.mark.parametrize(
    ("best", "validation", "message"),
    [
        ("dice", HELD_OUT, "dice does not suit this loss; expected psnr, ssim, rmse"),
        ("z psnr", HELD_OUT, r"'z psnr' names the output 'z'; expected "),
        ("psnr", None, "best epoch by psnr is told by validation data, and there is none"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    best: str, validation: Any, message: str, artifacts: Path
) -> None:
    before = {path.name: path.read_bytes() for path in artifacts.iterdir()}
    with pytest.raises(DataError, match=message):
        train(artifacts, RunData(data(), validation=validation), replace(OPTIONS, best=best))
    assert {path.name: path.read_bytes() for path in artifacts.iterdir()} == before


def test_an_unknown_measure_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(DataError, match="expected best of loss, psnr, ssim, rmse, accuracy, dice, iou, f1, got 'mae'"):
        TrainOptions(best="mae")


def test_of_plain_classes_f1_is_measured_and_dice_is_not(tmp_path: Path) -> None:
    text = "g (float[N, 2, H, W] x) => (float[N, 3] y) { m = Conv(x, w, b) p = GlobalAveragePool(m) y = Flatten(p) }"
    directory = make_artifacts(text_model(text, w=(3, 2, 1, 1), b=(3,)), tmp_path, tgdonnx.AllLayers(), loss="ce")
    rng = np.random.default_rng(4)
    content = {"x": rng.normal(size=(9, 2, 5, 4)).astype(np.float32), "target": np.arange(9) % 3}
    run = RunData(content, validation=content)
    report = train(directory, run, TrainOptions(epochs=1, batch=4, best="f1"))
    assert list(report.epochs[0].metrics) == ["accuracy", "f1"]
    with pytest.raises(DataError, match="dice compares regions"):
        train(directory, run, TrainOptions(epochs=1, metrics=("dice",)), resume=True)
