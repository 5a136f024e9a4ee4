"""When a run ends: its length, time, patience, and the vendor's own task."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of
from tests.support import models
from tests.support.checkpoints import BEST, CHECKPOINT
from tests.support.fake_sessions import validated_as
from tests.support.trainer import make_artifacts
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.finetuning import RunData, TrainOptions, opening, train
from tgdonnx.finetuning.session import Session, read_parameters
from tgdonnx.finetuning.state import RunState
from tgdonnx.finetuning.stopping import reason_to_stop


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path_factory.mktemp("built"), tgdonnx.Phi(0.3))


@pytest.mark.parametrize(("steps", "epochs"), [(1, [0, 1]), (3, [0, 3]), (4, [0, 3, 4]), (7, [0, 3, 6, 7])])
def test_a_run_of_steps_ends_with_them_and_is_validated_there(steps: int, epochs: list[int], artifacts: Path) -> None:
    report = train(artifacts, RunData(data(), validation=HELD_OUT), replace(OPTIONS, epochs=None, steps=steps))
    assert (report.steps, len(report.loss), report.stop.rule) == (steps, steps, "length")
    assert [epoch.step for epoch in report.epochs] == epochs
    assert all(epoch.validation is not None for epoch in report.epochs)
    events = [line["event"] for line in log_of(artifacts) if line["event"] != "step"]
    assert events == ["epoch" if step % 3 == 0 else "validation" for step in epochs] + ["stop"]


def test_a_falling_rate_falls_over_the_steps_of_the_run(artifacts: Path) -> None:
    train(artifacts, data(), replace(OPTIONS, epochs=None, steps=4, schedule="linear"))
    rates = [line["learning_rate"] for line in log_of(artifacts) if line["event"] == "step"]
    assert rates == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


@pytest.mark.parametrize(
    ("options", "last"),
    [
        (TrainOptions(), 70),
        (TrainOptions(epochs=3), 21),
        (TrainOptions(steps=5), 5),
        (TrainOptions(max_time=60), None),
        (TrainOptions(max_time=60, epochs=2), 14),
        (TrainOptions(max_time=60, steps=9), 9),
    ],
)
def test_the_last_step_is_that_of_epochs_or_steps_and_ten_epochs_unless_time_limits_the_run(
    options: TrainOptions, last: int | None
) -> None:
    assert options.last_step(7) == last


def test_time_stops_a_run_after_the_step_under_way_and_counts_what_was_done_before(artifacts: Path) -> None:
    options = replace(OPTIONS, epochs=None, max_time=1e-9)
    report = train(artifacts, RunData(data(), validation=HELD_OUT), options)
    assert (report.stop.rule, report.steps) == ("max-time", 0)
    options = replace(options, max_time=report.seconds + 0.2)
    report = train(artifacts, RunData(data(), validation=HELD_OUT), options, resume=True)
    assert report.stop.rule == "max-time"
    assert report.steps >= 1
    assert report.seconds >= options.max_time
    assert report.epochs[-1].step == report.steps
    assert report.epochs[-1].validation is not None
    again = train(artifacts, RunData(data(), validation=HELD_OUT), options, resume=True)
    assert (again.steps, again.stop.rule) == (report.steps, "max-time")


@pytest.mark.parametrize(
    ("losses", "patience", "steps", "best", "rule"),
    [
        ([4.0, 3.0, 3.0, 5.0, 1.0, 1.0], 2, 9, 3, "patience"),
        ([4.0, 5.0, 1.0, 1.0, 1.0, 0.5], 1, 3, 0, "patience"),
        ([4.0, 5.0, 3.0, 5.0, 2.0, 5.0], 2, 15, 12, "length"),
        ([4.0, 3.0, 3.0, 3.0, 3.0, 3.0], 4, 15, 3, "patience"),
    ],
)
def test_patience_ends_a_run_after_so_many_validations_that_are_no_better(
    losses: list[float],
    patience: int,
    steps: int,
    best: int,
    rule: str,
    artifacts: Path,
) -> None:
    with validated_as(losses):
        report = train(artifacts, RunData(data(), validation=HELD_OUT), replace(OPTIONS, epochs=5, patience=patience))
    assert (report.steps, report.best.step, report.stop.rule) == (steps, best, rule)
    if rule == "patience":
        assert report.stop.reason == f"the last {patience} validations were no better than that of step {best}"


def test_patience_counts_on_after_resuming(built: Path, tmp_path: Path) -> None:
    losses = [4.0, 3.0, 3.5, 3.5, 3.5, 3.5]
    reports = []
    for cut in (None, 2):
        directory = Path(shutil.copytree(built, tmp_path / str(cut)))
        options = replace(OPTIONS, epochs=5, patience=3)
        with validated_as(losses):
            if cut is not None:
                train(directory, RunData(data(), validation=HELD_OUT), replace(options, epochs=cut))
            reports.append(train(directory, RunData(data(), validation=HELD_OUT), options, resume=cut is not None))
    assert [report.steps for report in reports] == [12, 12]
    assert reports[0].stop == reports[1].stop


@pytest.mark.parametrize("every", [1, 2, 4])
def test_validation_every_so_many_steps_finds_what_it_finds_at_epochs(every: int, built: Path, tmp_path: Path) -> None:
    plain = train(Path(shutil.copytree(built, tmp_path / "plain")), RunData(data(), validation=HELD_OUT), OPTIONS)
    directory = Path(shutil.copytree(built, tmp_path / "often"))
    report = train(directory, RunData(data(), validation=HELD_OUT), replace(OPTIONS, validate_every=every))
    assert report.loss == plain.loss
    validated = [epoch.step for epoch in report.epochs if epoch.validation is not None]
    assert validated == sorted({*range(0, 10, every), 9})
    assert [epoch.step for epoch in report.epochs] == sorted({*range(0, 10, every), 0, 3, 6, 9})
    at = {epoch.step: epoch.validation for epoch in plain.epochs}
    assert all(epoch.validation in (None, at.get(epoch.step, epoch.validation)) for epoch in report.epochs)
    for before, epoch in zip(report.epochs, report.epochs[1:]):
        assert epoch.loss == pytest.approx(np.mean(report.loss[before.step : epoch.step]), rel=1e-12)
    lowest = min(validated, key=lambda step: next(e.validation for e in report.epochs if e.step == step) or 0.0)
    assert report.best.step == lowest


# The vendor's own task.


def retained(monkeypatch: pytest.MonkeyPatch, values: list[float | None]) -> None:
    """Makes ``rmse`` of the vendor's own task take these values."""
    left = iter(values)
    open_retention = opening.open_retention

    def opened(*arguments: Any, **named: Any) -> Any:
        return replace(open_retention(*arguments, **named), evaluate=lambda *_: {"rmse": next(left)})

    monkeypatch.setattr(opening, "open_retention", opened)


GUARDED = replace(OPTIONS, epochs=5, metrics=("rmse",), retain_limit=0.5)


def test_the_limit_of_retention_ends_a_run_and_keeps_the_best_epoch_that_respects_it(
    built: Path, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retained(monkeypatch, [1.0, 1.2, 1.5, 1.51])
    with validated_as([4.0, 2.0, 3.0, 1.0]):
        report = train(artifacts, RunData(data(), validation=HELD_OUT, retain=HELD_OUT), GUARDED)
    assert (report.stop.rule, report.steps, report.best.step, report.best.loss) == ("retain-limit", 9, 3, 2.0)
    assert report.stop.reason == (
        "rmse of the vendor's own task is worse by 0.51 than at the start (limit 0.5) after step 9; "
        "the checkpoint of step 3 is kept"
    )
    assert [epoch.retain for epoch in report.epochs] == [{"rmse": value} for value in (1.0, 1.2, 1.5, 1.51)]
    monkeypatch.undo()
    other = Path(shutil.copytree(built, tmp_path / "other"))
    train(other, data(), replace(OPTIONS, epochs=1))
    kept, wanted = read_parameters(artifacts, BEST), read_parameters(other, CHECKPOINT)
    assert all(kept[name].tobytes() == values.tobytes() for name, values in wanted.items())


def test_without_validation_the_last_epoch_within_the_limit_is_kept(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retained(monkeypatch, [1.0, 1.2, 1.4, 1.6])
    report = train(artifacts, RunData(data(), retain=HELD_OUT), GUARDED)
    assert (report.stop.rule, report.steps) == ("retain-limit", 9)
    assert (report.best.step, report.best.checkpoint) == (6, BEST)
    assert report.best.loss == report.epochs[2].loss
    state = Session(artifacts).run_state
    assert state is not None
    assert (state.retain_start, state.retain_fall) == (1.0, pytest.approx(0.6))


def test_the_start_that_the_limit_counts_from_survives_a_resume(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retained(monkeypatch, [1.0, 1.4, 1.8])
    train(artifacts, RunData(data(), retain=HELD_OUT), replace(GUARDED, epochs=1))
    report = train(artifacts, RunData(data(), retain=HELD_OUT), GUARDED, resume=True)
    assert (report.stop.rule, report.steps, report.best.step) == ("retain-limit", 6, 3)


def test_a_run_without_retention_is_not_resumed_with_it(artifacts: Path) -> None:
    train(artifacts, data(), replace(OPTIONS, epochs=1))
    with pytest.raises(ArtifactsError, match="started with retain = None, not rmse"):
        train(artifacts, RunData(data(), retain=HELD_OUT), GUARDED, resume=True)


def test_a_metric_that_is_infinite_at_the_start_cannot_be_guarded(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retained(monkeypatch, [None])
    with pytest.raises(DataError, match="infinite at the start"):
        train(artifacts, RunData(data(), retain=HELD_OUT), GUARDED)


def test_a_metric_for_which_more_is_better_is_worse_when_it_falls() -> None:
    state = RunState(1, 3, {}, retain_start=30.0, retain_fall=0.7, best_step=0)
    options = TrainOptions(retain_limit=0.5)
    stop = reason_to_stop(state, options, 3, "psnr")
    assert stop is not None
    assert stop.rule == "retain-limit"
    assert reason_to_stop(replace(state, retain_fall=0.5), options, 3, "psnr") is None
    assert reason_to_stop(replace(state, retain_fall=None), options, 3, "psnr") is None


# Wrong use.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3, "steps": 5}, "expected epochs or steps, got both"),
        ({"steps": 0}, "expected steps >= 1, got 0"),
        ({"accumulate": 0}, "expected accumulate >= 1, got 0"),
        ({"patience": 0}, "expected patience >= 1, got 0"),
        ({"validate_every": 0}, "expected validate_every >= 1, got 0"),
        ({"max_time": 0.0}, "expected max_time > 0, got 0"),
        ({"max_time": float("nan")}, "expected max_time > 0, got nan"),
        ({"checkpoint_every": -1.0}, "expected checkpoint_every >= 0, got -1"),
        ({"retain_limit": -0.1}, "expected retain_limit >= 0, got -0.1"),
        ({"metric_range": 0.0}, "expected metric_range > 0, got 0"),
        ({"metrics": ("mae",)}, "expected metrics of psnr, .* got 'mae'"),
        ({"max_time": 60.0, "schedule": "cosine"}, "cosine needs a run of known length; give epochs or steps"),
    ],
)
def test_options_out_of_range_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TrainOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 2}, "no validation data; pass it"),
        ({"retain_limit": 0.5}, "pass retain"),
        ({"metrics": ("rmse",)}, "metrics are taken of validation data"),
    ],
)
def test_options_that_need_data_are_told_before_anything_is_written(
    options: dict[str, Any], message: str, artifacts: Path
) -> None:
    before = {path.name: path.read_bytes() for path in artifacts.iterdir()}
    with pytest.raises(DataError, match=message):
        train(artifacts, data(), replace(OPTIONS, **options))
    assert {path.name: path.read_bytes() for path in artifacts.iterdir()} == before
