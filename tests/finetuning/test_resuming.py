"""A run that was killed, stopped by a signal, or cut off anywhere else goes on as if it had not been."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of, same_state, timeless
from tests.support import models
from tests.support.checkpoints import BEST
from tests.support.fake_sessions import hooked
from tests.support.trainer import make_artifacts
from tgdonnx.data import Dataset
from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning import Progress, RunData, TrainOptions, TrainReport, Watch, train
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState

ROOT = Path(__file__).parents[2]
# Steps: 2 batches of 3 and the one that is left, twice per epoch; validation in the middle of epochs, and at their ends.
ACCUMULATING = replace(OPTIONS, batch=3, accumulate=2, epochs=4, validate_every=3, checkpoint_every=0.0)


@pytest.fixture(scope="module", params=["masked", "thin"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return make_artifacts(models.dncnn(0), folder, tgdonnx.Phi(0.3), l2=0.01, clip_norm=0.5, form=request.param)


def whole(built: Path, folder: Path, options: TrainOptions) -> tuple[Path, TrainReport]:
    copy = Path(shutil.copytree(built, folder / "whole"))
    return copy, train(copy, RunData(data(), validation=HELD_OUT), options)


@pytest.fixture(scope="module")
def accumulated(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport]:
    return whole(built, tmp_path_factory.mktemp("accumulated"), ACCUMULATING)


def steps_of(directory: Path) -> list[tuple[int, float, float]]:
    return [(e["step"], e["loss"], e["learning_rate"]) for e in log_of(directory) if e["event"] == "step"]


def records_of(directory: Path) -> list[tuple[Any, ...]]:
    names = ("event", "epoch", "step", "loss", "validation", "metrics")
    return [tuple(map(str, (e[n] for n in names))) for e in log_of(directory) if e["event"] in ("epoch", "validation")]


def assert_same(directory: Path, expected: Path) -> None:
    assert steps_of(directory) == steps_of(expected), "a loss differs, or a line is there twice or missing"
    assert records_of(directory) == records_of(expected)
    assert same_state(directory, expected)
    assert same_state(directory, expected, BEST)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("masked", replace(OPTIONS, epochs=90, checkpoint_every=0.0, schedule="cosine", warmup=10)),
        ("thin", replace(ACCUMULATING, epochs=120, checkpoint_every=0.02)),
    ],
)
def test_a_process_killed_at_20_random_moments_ends_as_one_that_was_not(
    form: str, options: TrainOptions, tmp_path: Path
) -> None:
    built = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), l2=0.01, clip_norm=0.5, form=form)
    expected, _ = whole(built, tmp_path, options)
    directory = Path(shutil.copytree(built, tmp_path / "killed"))
    command = [
        sys.executable,
        "-m",
        "tests.finetuning.killed_run",
        str(directory),
        json.dumps(asdict(options)),
        "20",
        "7",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["killed"], told["status"]) == (20, 0), done.stderr.decode()[-2000:]
    assert len(set(told["steps"])) >= 8, "the kills are spread over the run"
    assert_same(directory, expected)
    assert not list(directory.glob(".*.tmp")), "what killed processes left is gone"
    # The optimizer's state goes on the same way, too.
    if options.schedule == "constant":
        longer = replace(options, epochs=options.epochs + 1 if options.epochs else None)
        for run in (directory, expected):
            train(run, RunData(data(), validation=HELD_OUT), longer, resume=True)
        assert_same(directory, expected)


def acting_at(number: int, act: Callable[[], None]) -> Callable[..., Any]:
    """Returns a function that acts at its call of this number, counted from 1, and returns what it is given, if anything."""
    count = 0

    def watched(given: Any = None) -> Any:
        nonlocal count
        count += 1
        if count == number:
            act()
        return given

    return watched


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 8, 13, 15, 16])
def test_a_signal_between_any_two_batches_saves_and_the_run_goes_on_from_there(
    number: int,
    built: Path,
    accumulated: tuple[Path, TrainReport],
    tmp_path: Path,
) -> None:
    expected, report = accumulated
    directory = Path(shutil.copytree(built, tmp_path / "stopped"))
    options = replace(ACCUMULATING, checkpoint_every=1e6)
    with hooked(batch=acting_at(number, lambda: signal.raise_signal(signal.SIGTERM))):
        stopped = train(directory, RunData(data(), validation=HELD_OUT), options, watch=Watch(stop_on=[signal.SIGTERM]))
    if number < 16:
        assert (stopped.stop.rule, stopped.stop.signal) == ("signal", signal.SIGTERM)
        # Steps have 2, 2 batches per epoch of 4; a gradient that is half accumulated is left out.
        assert stopped.steps == number // 2
        assert stopped.stop.reason == f"stopped by SIGTERM after step {number // 2}"
        assert log_of(directory)[-1]["event"] == "stop"
    state = Session(directory).run_state
    assert state is not None
    assert state.step == stopped.steps
    resumed = train(directory, RunData(data(), validation=HELD_OUT), options, resume=True)
    assert_same(directory, expected)
    assert timeless(resumed) == timeless(report)


def test_a_signal_during_validation_saves_too(
    built: Path, accumulated: tuple[Path, TrainReport], tmp_path: Path
) -> None:
    expected, report = accumulated
    for number in (1, 2, 5, 7):
        directory = Path(shutil.copytree(built, tmp_path / str(number)))
        with hooked(before_evaluation=acting_at(number, lambda: signal.raise_signal(signal.SIGINT))):
            stopped = train(
                directory, RunData(data(), validation=HELD_OUT), ACCUMULATING, watch=Watch(stop_on=[signal.SIGINT])
            )
        assert stopped.stop.signal == signal.SIGINT
        resumed = train(directory, RunData(data(), validation=HELD_OUT), ACCUMULATING, resume=True)
        assert_same(directory, expected)
        assert timeless(resumed) == timeless(report)


class CutOff(Exception):  # noqa: N818
    """Stands for the moment when the machine is switched off."""


def test_a_run_cut_off_before_its_first_checkpoint_is_resumed_from_its_start(built: Path, tmp_path: Path) -> None:
    expected, _ = whole(built, tmp_path, OPTIONS)
    directory = Path(shutil.copytree(built, tmp_path / "cut"))

    def cut(*_: Any) -> None:
        raise CutOff

    with suppress(CutOff), hooked(before_save=cut):
        train(directory, RunData(data(), validation=HELD_OUT), OPTIONS)
    assert Session(directory).run_state is None
    train(directory, RunData(data(), validation=HELD_OUT), OPTIONS, resume=True)
    assert_same(directory, expected)


def test_the_data_before_the_place_where_a_run_goes_on_is_not_read_again(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, batch=2, checkpoint_every=0.0)
    directory = Path(shutil.copytree(built, tmp_path / "cut"))

    def cut(told: Progress) -> None:
        if told.step == 9:
            raise CutOff

    with suppress(CutOff):
        train(directory, data(), options, watch=Watch(on_progress=cut))
    asked: list[tuple[Any, ...]] = []
    batches = Dataset.batches

    def watched(self: Dataset, size: int, *, epoch: Any = None, seed: int = 0, start: int = 0) -> Any:
        asked.append((size, epoch, seed, start))
        return batches(self, size, epoch=epoch, seed=seed, start=start)

    monkeypatch.setattr(Dataset, "batches", watched)
    train(directory, data(), options, resume=True)
    assert [call for call in asked if call[1] is not None] == [(2, 2, 5, 3), (2, 3, 5, 0)]


def test_the_best_checkpoint_is_put_right_if_it_is_older_than_the_last_one(built: Path, tmp_path: Path) -> None:
    expected, _ = whole(built, tmp_path, replace(OPTIONS, epochs=1))
    directory = Path(shutil.copytree(built, tmp_path / "cut"))

    def cut(name: str, state: RunState) -> None:
        if name == BEST and state.step:
            raise CutOff

    with suppress(CutOff), hooked(before_save=cut):
        train(directory, RunData(data(), validation=HELD_OUT), replace(OPTIONS, epochs=1))
    assert not same_state(directory, expected, BEST)
    train(directory, RunData(data(), validation=HELD_OUT), replace(OPTIONS, epochs=1), resume=True)
    assert same_state(directory, expected, BEST)


def test_other_data_of_the_same_length_is_refused(built: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(built, tmp_path / "run"))
    train(directory, data(), replace(OPTIONS, epochs=1))
    other = {name: array[:, :, :5] for name, array in data().items()}
    with pytest.raises(ArtifactsError, match=r"other data: 'target' was float32 .* is float32 .* now; 'x' was"):
        train(directory, other, OPTIONS, resume=True)


def test_when_a_run_ends_and_saves_may_change_on_resume(built: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(built, tmp_path / "run"))
    train(directory, RunData(data(), validation=HELD_OUT), replace(OPTIONS, epochs=None, steps=4))
    options = replace(OPTIONS, epochs=None, steps=7, patience=50, validate_every=2, checkpoint_every=1.0, max_time=1e4)
    report = train(directory, RunData(data(), validation=HELD_OUT), options, resume=True)
    expected = train(Path(shutil.copytree(built, tmp_path / "other")), data(), replace(OPTIONS, epochs=None, steps=7))
    assert report.loss == expected.loss


def test_a_second_signal_aborts(built: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(built, tmp_path / "run"))

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with hooked(batch=acting_at(5, twice)), pytest.raises(KeyboardInterrupt):
        train(directory, data(), OPTIONS, watch=Watch(stop_on=[signal.SIGINT]))
    assert signal.getsignal(signal.SIGINT) is before
    assert train(directory, data(), OPTIONS, resume=True).steps == 9


def test_without_asking_signals_are_not_touched(built: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # under nohup it would be ignored
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    directory = Path(shutil.copytree(built, tmp_path / "run"))
    stop = acting_at(4, lambda: signal.raise_signal(signal.SIGINT))
    with hooked(batch=stop), pytest.raises(KeyboardInterrupt):
        train(directory, data(), OPTIONS)
