"""Several batches per step are one large batch, and the last step of an epoch takes what is left."""

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
from tests.support.checkpoints import CHECKPOINT
from tests.support.trainer import make_artifacts, open_trainer
from tgdonnx.finetuning import RunData, train
from tgdonnx.finetuning.session import Session, read_parameters
from tgdonnx.finetuning.state import RunState

NOWHERE = RunState(0, 0, {})
# A rate at which a step moves the weights by some per mille, so that a gradient that is too large or small by a factor shows.
CASES: list[tuple[str, Any, float]] = [
    ("adamw", None, 1e-2),
    ("adamw", 0.5, 1e-2),
    ("sgd", None, 1e-6),
    ("sgd", 0.5, 1e-2),
]


@pytest.mark.parametrize("form", ["masked", "thin"])
@pytest.mark.parametrize(("optimizer", "clip_norm", "rate"), CASES)
def test_equal_batches_are_one_large_batch(
    form: str, optimizer: str, clip_norm: Any, rate: float, engine: str, tmp_path: Path
) -> None:
    options = {"optimizer": optimizer, "clip_norm": clip_norm, "l2": 0.01, "form": form, "engine": engine}
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), **options)
    large, small, before = open_trainer(directory), Session(directory), open_trainer(directory).parameters
    for count, seed in ((3, 0), (2, 1), (3, 2), (1, 3)):  # optimizers for several counts share one state
        arrays = data(4 * count, seed)
        loss = large.step(rate, arrays["x"], arrays["target"])
        batches = [[arrays["x"][i : i + 4], arrays["target"][i : i + 4]] for i in range(0, 4 * count, 4)]
        losses = small.step(batches, rate)
        assert np.mean(losses) == pytest.approx(loss, rel=1e-5)
    small.save("probe", NOWHERE)
    found = read_parameters(directory, "probe")
    for name, expected in large.parameters.items():
        moved = np.abs(expected - before[name]).max()
        assert moved > 0, name
        assert np.abs(found[name] - expected).max() <= 2e-3 * moved, name


def test_a_run_takes_so_many_batches_per_step_and_what_is_left_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3))
    reference = Session(Path(shutil.copytree(directory, tmp_path / "reference")))
    report = train(directory, RunData(data(14), validation=HELD_OUT), replace(OPTIONS, batch=2, accumulate=3))
    assert [epoch.step for epoch in report.epochs] == [0, 3, 6, 9]
    arrays, expected = data(14), []
    for epoch in (1, 2, 3):
        order = np.random.default_rng([5, epoch]).permutation(14)
        batches = [np.sort(order[i : i + 2]) for i in range(0, 14, 2)]
        for group in (batches[:3], batches[3:6], batches[6:]):
            batches = [[arrays["x"][rows], arrays["target"][rows]] for rows in group]
            losses = reference.step(batches, 1e-2)
            expected.append(sum(losses) / len(losses))
    assert report.loss == pytest.approx(expected, rel=1e-12)
    reference.save("probe", NOWHERE)
    found, wanted = read_parameters(directory, CHECKPOINT), read_parameters(tmp_path / "reference", "probe")
    assert all(found[name].tobytes() == values.tobytes() for name, values in wanted.items())
    assert [line["step"] for line in log_of(directory) if line["event"] == "step"] == list(range(1, 10))


def test_gradients_before_a_loss_that_is_not_finite_leave_no_trace(engine: str, tmp_path: Path) -> None:
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), engine=engine)
    one, other = Session(directory), Session(directory)
    first, second = data(4, 1), data(4, 2)
    losses = one.step([[first["x"], first["target"]], [first["x"], np.full_like(first["target"], 1e30)]], 1e-2)
    assert np.isfinite(losses).tolist() == [True, False]
    for session in (one, other):
        session.step([[second["x"], second["target"]]], 1e-2)
    one.save("one", NOWHERE)
    other.save("other", NOWHERE)
    a, b = read_parameters(directory, "one"), read_parameters(directory, "other")
    assert all(a[name].tobytes() == values.tobytes() for name, values in b.items())
