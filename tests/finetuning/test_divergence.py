"""Runs that diverge stop, and what they leave is finite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of
from tests.support import models
from tests.support.checkpoints import BEST, CHECKPOINT
from tests.support.fake_sessions import hooked, not_a_number
from tests.support.models import Array
from tests.support.trainer import make_artifacts
from tgdonnx.errors import DivergedError, TgdonnxError
from tgdonnx.finetuning import RunData, train
from tgdonnx.finetuning.session import Session, read_parameters


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_checkpoint(
    artifacts: Path,
) -> None:
    count = 0

    def poisoned(batch: list[Array]) -> list[Array]:
        nonlocal count
        count += 1
        return [batch[0], np.full_like(batch[1], 1e30)] if count == 8 else batch

    message = r"loss is inf at step 8; the checkpoint of step 6 is kept.*\n?.*learning rate"
    with hooked(batch=poisoned), pytest.raises(DivergedError, match=message):
        train(artifacts, data(), OPTIONS)
    kept = Session(artifacts)
    assert kept.run_state is not None
    assert kept.run_state.step == 6
    assert kept.parameters_are_finite()
    report = train(artifacts, data(), OPTIONS, resume=True)
    assert report.steps == 9
    assert [line["step"] for line in log_of(artifacts) if line["event"] == "step"] == list(range(1, 10))


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 1e20), ("sgd", 1e20)])
def test_a_rate_far_too_large_diverges_in_words_and_leaves_finite_checkpoints(
    optimizer: str, rate: float, tmp_path: Path
) -> None:
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), optimizer=optimizer)
    message = r"diverged: .* step \d+; (the checkpoint of step \d+ is kept|there is no checkpoint of any step before)"
    with pytest.raises(DivergedError, match=message) as caught:
        train(directory, RunData(data(), validation=HELD_OUT), replace(OPTIONS, learning_rate=rate, epochs=20))
    assert isinstance(caught.value, (TgdonnxError, ArithmeticError))
    assert len(str(caught.value).splitlines()) <= 2
    for name in (CHECKPOINT, BEST):
        assert all(np.isfinite(values).all() for values in read_parameters(directory, name).values())


def test_a_weight_that_is_not_finite_after_the_last_step_of_an_epoch_is_not_saved(
    artifacts: Path,
) -> None:
    train(artifacts, data(), replace(OPTIONS, epochs=1))
    before, count = read_parameters(artifacts, CHECKPOINT), 0

    def counted(batch: list[Array]) -> list[Array]:
        nonlocal count
        count += 1
        return batch

    message = "a weight is not finite after step 6; the checkpoint of step 3 is kept"
    told = hooked(batch=counted, told=lambda parameters: not_a_number(parameters) if count >= 3 else parameters)
    with told, pytest.raises(DivergedError, match=message):
        train(artifacts, data(), OPTIONS, resume=True)
    after = read_parameters(artifacts, CHECKPOINT)
    assert all(np.array_equal(after[name], values) for name, values in before.items())
