"""Reading back what a run wrote down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reporting.runs import epoch, full_log, step, write_log
from tgdonnx.reporting.history import read_history


def test_every_number_of_the_log_is_there(tmp_path: Path) -> None:
    log = full_log(7)
    write_log(tmp_path, log)
    history = read_history(tmp_path)
    steps = [entry for entry in log if entry["event"] == "step"]
    assert history.steps.tolist() == [entry["step"] for entry in steps]
    assert history.losses.tolist() == [entry["loss"] for entry in steps]
    assert history.learning_rates.tolist() == [entry["learning_rate"] for entry in steps]
    assert (history.seconds == 0.5).all()
    assert (history.wait == 0.01).all()
    for found, entry in zip(history.evaluations, [entry for entry in log if entry["event"] == "epoch"]):
        assert (found.epoch, found.step) == (entry["epoch"], entry["step"])
        assert (found.loss, found.validation) == (entry["loss"], entry["validation"])
        assert (found.metrics, found.retain) == (entry["metrics"], entry["retain"])
    assert len(history.evaluations) == 3
    assert history.stop == "all 7 steps are done"
    assert history.unreadable == 0
    assert (history.metric_names(), history.retain_names()) == (("psnr", "ssim"), ("psnr",))


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "step", "epoch": 1, "st',
        "[1, 2]",
        "null",
        '{"event": "song"}',
        json.dumps(step(1, 1.0) | {"loss": "1.0"}),
        json.dumps(step(1, 1.0) | {"loss": None}),
        json.dumps(step(1, 1.0) | {"step": True}),
        json.dumps(step(1, 1.0) | {"step": -1}),
        json.dumps(step(1, float("nan"))),
        json.dumps(epoch(1, 1, 1.0, [2.0], metrics={})),  # type: ignore[arg-type]
        json.dumps(epoch(1, 1, 1.0, 2.0, metrics={"psnr": "high"})),
        json.dumps(step(1, 1.0) | {"step": 10**400}),
        "[" * 100_000,
        "\0\0\0",
    ],
)
def test_a_line_that_is_damaged_is_counted_and_the_others_stay(line: str, tmp_path: Path) -> None:
    write_log(tmp_path, [step(1, 3.0), line, step(2, 2.0)])
    history = read_history(tmp_path)
    assert history.losses.tolist() == [3.0, 2.0]
    assert history.unreadable == 1


def test_without_a_log_nothing_was_done(tmp_path: Path) -> None:
    history = read_history(tmp_path)
    assert history.steps.size == history.losses.size == 0
    assert history.evaluations == ()
