"""Runs with images to agree with the vendor on: what is trained on, what is recorded, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of, same_state
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.checkpoints import BEST
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.trainer import make_artifacts
from tgdonnx.data import DataOptions
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.finetuning import Progress, RunData, TrainOptions, Watch, dry_run, train
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.opening import open_data
from tgdonnx.finetuning.session import Session

IMAGES = {"x": 3 * data(7, seed=3)["x"]}
PLAIN = DataOptions()
SHARED = replace(OPTIONS, agree_share=0.3, checkpoint_every=0.0)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path_factory.mktemp("built"), tgdonnx.Phi(0.3))


def mixture(directory: Path, options: TrainOptions, reading: DataOptions = PLAIN, **sources: Any) -> Samples:
    given = {"data": data(), "agree": IMAGES, **sources}
    return open_data(Session(directory), RunData(**given, reading=reading), options)[0]


def test_the_loss_of_a_step_is_that_of_targets_and_the_vendors_outputs_together(artifacts: Path) -> None:
    """The first step is by hand: which rows are images is told from the inputs, the vendor's outputs are numpy's."""
    samples = data()
    first = next(mixture(artifacts, SHARED).batches(SHARED.batch, epoch=1, seed=SHARED.seed))
    vendor = NumpyNet(models.dncnn(0)).run({"x": first[0]})["y"]
    kinds = []
    for x, target, output in zip(*first, vendor):
        here = [i for i, other in enumerate(samples["x"]) if np.array_equal(x, other)]
        assert here or any(np.array_equal(x, other) for other in IMAGES["x"])
        kinds.append(bool(here))
        expected = samples["target"][here[0]] if here else output
        assert np.abs(target - expected).max() <= (0 if here else 1e-6 * np.abs(expected).max())
    assert sorted(kinds) == [False, True, True, True]  # floor(4 * 0.3) of 4
    errors = [((output - target) ** 2).mean() for target, output, kind in zip(first[1], vendor, kinds) if kind]
    report = train(artifacts, RunData(data(), agree=IMAGES), SHARED)
    assert report.loss[0] == pytest.approx(float(np.sum(errors)) / 4, rel=1e-5)
    assert len(report.loss) == 3 * 4  # 14 samples: 10, and as many images as make 0.3 of them


class _CutOffError(Exception):
    pass


def _cut_after(step: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise _CutOffError

    return stop


@pytest.mark.parametrize("step", [1, 3, 4, 6, 11])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(step: int, artifacts: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(artifacts, tmp_path / "whole"))
    expected = train(whole, RunData(data(), validation=HELD_OUT, agree=IMAGES), SHARED)
    with pytest.raises(_CutOffError):
        train(
            artifacts,
            RunData(data(), validation=HELD_OUT, agree=IMAGES),
            SHARED,
            watch=Watch(on_progress=_cut_after(step)),
        )
    found = train(artifacts, RunData(data(), validation=HELD_OUT, agree=IMAGES), SHARED, resume=True)
    assert found.loss == expected.loss
    assert [e.validation for e in found.epochs] == [e.validation for e in expected.epochs]
    assert same_state(artifacts, whole)
    assert same_state(artifacts, whole, BEST)


def test_a_resumed_run_has_the_same_images_and_the_same_share(artifacts: Path) -> None:
    train(artifacts, RunData(data(), agree=IMAGES), SHARED)
    more = replace(SHARED, epochs=4)
    for wrong in (
        {"options": more},
        {"options": replace(more, agree_share=0.29), "agree": IMAGES},
        {"options": more, "agree": {"x": IMAGES["x"][:-1]}},
    ):
        options = wrong["options"] if "agree" in wrong else replace(more, agree_share=None)
        with pytest.raises(ArtifactsError, match="with the same data and options"):
            train(artifacts, RunData(data(), agree=wrong.get("agree")), options, resume=True)
    assert train(artifacts, RunData(data(), agree=IMAGES), more, resume=True).steps == 16


def test_the_record_says_which_images_and_how_many_of_them(artifacts: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", **IMAGES)
    train(artifacts, RunData(data(), agree=tmp_path / "images.npz"), OPTIONS)
    record = json.loads((artifacts / "run.json").read_text())
    assert record["agree"]["source"] == str(tmp_path / "images.npz")
    assert record["agree"]["share"] == 0.25
    assert record["agree"]["images"]["samples"] == 7
    assert record["data"]["samples"] == 10
    assert "agreement" not in record["data"]


def test_a_target_among_the_images_and_its_name_are_not_looked_at(artifacts: Path) -> None:
    renamed = DataOptions(map={"clean": "target"})
    pairs = {"x": data()["x"], "clean": data()["target"]}
    named = mixture(artifacts, SHARED, renamed, data=pairs)
    plain = mixture(artifacts, SHARED, agree={**IMAGES, "target": np.zeros((7, 3, 6, 5), np.float32)})
    for a, b in zip(named.batches(4, epoch=2), plain.batches(4, epoch=2)):
        assert all(np.array_equal(x, y) for x, y in zip(a, b))


def test_a_dry_run_counts_the_images(artifacts: Path) -> None:
    assert dry_run(artifacts, RunData(data(), agree=IMAGES), SHARED).steps_per_epoch == 4
    assert dry_run(artifacts, data(), OPTIONS).steps_per_epoch == 3


def test_evaluation_is_without_the_images(artifacts: Path) -> None:
    report = train(artifacts, RunData(data(), validation=HELD_OUT, agree=IMAGES), SHARED)
    session = open_session(models.dncnn(0))
    output: Array = session.run(None, {"x": HELD_OUT["x"]})[0]
    assert report.epochs[0].validation == pytest.approx(float(((output - HELD_OUT["target"]) ** 2).mean()), rel=1e-5)


def test_refuses_a_share_without_images_and_images_that_do_not_fit(artifacts: Path) -> None:
    before = sorted(path.name for path in artifacts.iterdir())
    with pytest.raises(DataError, match="pass agree"):
        train(artifacts, data(), SHARED)
    with pytest.raises(DataError, match="has no array 'x'"):
        train(artifacts, RunData(data(), agree={"z": IMAGES["x"], "w": IMAGES["x"]}), SHARED)
    with pytest.raises(DataError, match="expected agree_share above 0 and below 1, got 1"):
        TrainOptions(agree_share=1.0)
    assert sorted(path.name for path in artifacts.iterdir()) == before


def test_the_limit_of_retention_can_be_one_that_does_not_stop(artifacts: Path, tmp_path: Path) -> None:
    """The run is the whole one, and keeps the best validation within the limit."""
    retain = {"x": HELD_OUT["x"]}
    options = replace(OPTIONS, learning_rate=3e-2, epochs=6, metrics=("rmse",))
    whole = Path(shutil.copytree(artifacts, tmp_path / "whole"))
    free = train(whole, RunData(data(), validation=HELD_OUT, retain=retain), options)
    falls = [e.retain["rmse"] - free.epochs[0].retain["rmse"] for e in free.epochs]  # type: ignore[operator]
    limit = sorted(falls)[2]
    limited = replace(options, retain_limit=limit, on_retain_limit="go-on")
    found = train(artifacts, RunData(data(), validation=HELD_OUT, retain=retain), limited)
    assert found.loss == free.loss
    allowed = [e for e, fall in zip(free.epochs, falls) if fall <= limit]
    assert len(allowed) < len(free.epochs)
    assert found.best.step == min(allowed, key=lambda e: e.validation or 0).step
    assert [line["rule"] for line in log_of(artifacts) if line["event"] == "stop"] == ["length"]
