"""A run that was cut off goes on as if it had not been."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of, same_state, timeless, uninterrupted
from tests.support.checkpoints import BEST
from tests.support.fake_sessions import hooked
from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning import Progress, RunData, Watch, train
from tgdonnx.finetuning.session import Session

ROOT = Path(__file__).parents[2]


class CutOff(Exception):  # noqa: N818
    """Stands for the moment when the machine is switched off."""


def cut_off_at_step(step: int) -> Callable[[Progress], None]:
    def progress(told: Progress) -> None:
        if told.step == step:
            raise CutOff

    return progress


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_cut_off_at_any_step_continues_as_if_it_had_not_been(schedule: str, built: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, schedule=schedule)
    whole, expected = uninterrupted(built, tmp_path, options)
    for step in range(1, 10):
        directory = Path(shutil.copytree(built, tmp_path / str(step)))
        with pytest.raises(CutOff):
            train(
                directory, RunData(data(), validation=HELD_OUT), options, watch=Watch(on_progress=cut_off_at_step(step))
            )
        report = train(directory, RunData(data(), validation=HELD_OUT), options, resume=True)
        assert timeless(report) == timeless(expected), step
        assert same_state(directory, whole), step
        assert same_state(directory, whole, BEST), step
        steps = [line["step"] for line in log_of(directory) if line["event"] == "step"]
        epochs = [line["epoch"] for line in log_of(directory) if line["event"] == "epoch"]
        assert (steps, epochs) == (list(range(1, 10)), [0, 1, 2, 3]), "no line twice, none lost"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 9))
def test_a_run_cut_off_around_a_checkpoint_continues_as_if_it_had_not_been(
    number: int, when: str, built: Path, tmp_path: Path
) -> None:
    whole, expected = uninterrupted(built, tmp_path)
    directory = Path(shutil.copytree(built, tmp_path / "cut"))
    count = 0

    def cut(*_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise CutOff

    with suppress(CutOff), hooked(**{f"{when}_save": cut}):  # not raised if there are fewer checkpoints
        train(directory, RunData(data(), validation=HELD_OUT), OPTIONS)
    started = Session(directory).run_state is not None
    report = train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, resume=started)
    assert timeless(report) == timeless(expected)
    assert same_state(directory, whole)
    assert same_state(directory, whole, BEST)
    assert [line["step"] for line in log_of(directory) if line["event"] == "step"] == list(range(1, 10))


RUN = """
import sys, time
import numpy as np
from pathlib import Path
from tests.support.fake_sessions import hooked
from tests.finetuning.runs import HELD_OUT, OPTIONS, data
from tgdonnx.finetuning import RunData, Watch, train
from tgdonnx.finetuning.session import Session

directory = Path(sys.argv[1])
train(directory, RunData(data(), HELD_OUT), OPTIONS, resume=Session(directory).run_state is not None,
      watch=Watch(on_progress=lambda _: time.sleep(0.02)))
"""


def test_a_process_killed_at_random_moments_ends_with_the_same_losses_and_parameters(
    built: Path, tmp_path: Path
) -> None:
    whole, expected = uninterrupted(built, tmp_path)
    directory = Path(shutil.copytree(built, tmp_path / "killed"))
    chance = random.Random(3)
    killed = 0
    for _ in range(40):
        process = subprocess.Popen([sys.executable, "-c", RUN, str(directory)], cwd=ROOT, stderr=subprocess.PIPE)
        log = directory / "log.jsonl"
        before = log.stat().st_mtime_ns if log.exists() else 0
        while killed < 4 and process.poll() is None and (not log.exists() or log.stat().st_mtime_ns == before):
            time.sleep(0.005)
        if killed < 4:
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
        _, errors = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode < 0, errors.decode()
        killed += 1
    assert process.returncode == 0
    assert killed >= 2
    state = Session(directory).run_state
    assert state is not None
    assert (state.epoch, state.step) == (3, 9)
    steps = [line for line in log_of(directory) if line["event"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 10))
    assert [line["loss"] for line in steps] == list(expected.loss)
    assert same_state(directory, whole)
    assert same_state(directory, whole, BEST)
    assert not list(directory.glob(".*.tmp")) or killed, (
        "a killed process may leave a temporary file, a finished one none"
    )


def test_a_log_line_cut_off_in_the_middle_is_dropped(built: Path, tmp_path: Path) -> None:
    _, expected = uninterrupted(built, tmp_path)
    directory = Path(shutil.copytree(built, tmp_path / "cut"))
    with pytest.raises(CutOff):
        train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, watch=Watch(on_progress=cut_off_at_step(5)))
    text = (directory / "log.jsonl").read_text()
    (directory / "log.jsonl").write_text(text[:-9])
    assert timeless(train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True)) == timeless(expected)


def test_a_run_whose_log_is_gone_goes_on_from_its_checkpoint(built: Path, tmp_path: Path) -> None:
    whole, expected = uninterrupted(built, tmp_path)
    directory = Path(shutil.copytree(built, tmp_path / "cut"))
    with pytest.raises(CutOff):
        train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, watch=Watch(on_progress=cut_off_at_step(5)))
    (directory / "log.jsonl").unlink()
    report = train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True)
    assert report.steps == 9
    assert report.loss == expected.loss[3:]
    assert same_state(directory, whole)


def test_a_finished_run_can_be_prolonged_at_a_constant_rate(built: Path, tmp_path: Path) -> None:
    whole, expected = uninterrupted(built, tmp_path)
    directory = Path(shutil.copytree(built, tmp_path / "two"))
    train(directory, RunData(data(), validation=HELD_OUT), replace(OPTIONS, epochs=1))
    report = train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True)
    assert timeless(report) == timeless(expected)
    assert same_state(directory, whole)


def test_resuming_a_finished_run_changes_nothing(built: Path, tmp_path: Path) -> None:
    directory, expected = uninterrupted(built, tmp_path)
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    assert timeless(train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True)) == timeless(expected)
    assert same_state(directory, copy)
    assert log_of(directory) == log_of(copy)


@pytest.mark.parametrize(
    ("changed", "samples", "message"),
    [
        ({"seed": 6}, 10, "started with seed = 5, not 6"),
        ({"batch": 2}, 10, "started with batch = 4, not 2"),
        ({"learning_rate": 0.5}, 10, "started with learning_rate = 0.01, not 0.5"),
        ({"schedule": "linear"}, 10, "started with"),
        ({"warmup": 3}, 10, "started with warmup = 0, not 3"),
        ({}, 8, r"started with other data: 'target' was float32 \[10, .*, is float32 \[8, .* now; 'x' was"),
    ],
)
def test_a_run_is_resumed_with_its_own_options_and_data_only(
    changed: dict[str, Any], samples: int, message: str, artifacts: Path
) -> None:
    train(artifacts, data(), replace(OPTIONS, epochs=1))
    with pytest.raises(ArtifactsError, match=message):
        train(artifacts, data(samples), replace(OPTIONS, **changed), resume=True)


def test_a_falling_rate_cannot_be_prolonged(artifacts: Path) -> None:
    options = replace(OPTIONS, schedule="cosine", epochs=1)
    train(artifacts, data(), options)
    with pytest.raises(ArtifactsError, match="started with epochs = 1, not 3"):
        train(artifacts, data(), replace(options, epochs=3), resume=True)


def test_there_is_nothing_to_resume_in_new_artifacts(artifacts: Path) -> None:
    with pytest.raises(ArtifactsError, match="holds no run to resume; train it without `resume`"):
        train(artifacts, data(), OPTIONS, resume=True)
