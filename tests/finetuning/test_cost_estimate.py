"""What a run will cost, without doing it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data
from tests.support import models
from tests.support.fake_sessions import hooked
from tests.support.trainer import make_artifacts
from tgdonnx.errors import DataError, DivergedError
from tgdonnx.finetuning import RunData, dry_run, train


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3))


def test_it_changes_nothing_and_the_run_after_it_is_the_same(artifacts: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in artifacts.iterdir()}
    dry_run(artifacts, RunData(data(), validation=HELD_OUT, retain={"x": HELD_OUT["x"]}), OPTIONS)
    assert {path.name: path.read_bytes() for path in artifacts.iterdir()} == before
    assert train(artifacts, data(), OPTIONS).steps == 9


def test_it_counts_steps_and_gives_the_time_of_an_epoch(artifacts: Path) -> None:
    def slow(batch: list[Any]) -> list[Any]:
        time.sleep(0.05)
        return batch

    with hooked(batch=slow):
        cost = dry_run(artifacts, data(14), replace(OPTIONS, batch=2, accumulate=3, epochs=5))
    assert (cost.steps_per_epoch, cost.steps) == (3, 15)
    assert cost.step_seconds >= 0.15
    assert cost.epoch_seconds == pytest.approx(3 * cost.step_seconds)
    assert cost.peak_memory is None or 2**24 < cost.peak_memory < 2**36
    assert cost.loss == train(artifacts, data(14), replace(OPTIONS, batch=2, accumulate=3, epochs=1)).loss[0]


def test_bad_data_is_found(artifacts: Path) -> None:
    with pytest.raises(DataError, match="no array 'target'"):
        dry_run(artifacts, {"x": data()["x"]}, OPTIONS)
    with pytest.raises(DivergedError, match="loss of the first batch is inf"):
        dry_run(artifacts, {**data(), "target": np.full_like(data()["target"], 1e30)}, OPTIONS)
