"""Which data both files are compared on: what was held out, never what was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.trainer import make_artifacts
from tgdonnx.artifacts import Manifest, read_manifest
from tgdonnx.data import DataOptions, open_training
from tgdonnx.evaluating.shown import ShownData
from tgdonnx.finetuning import RunData


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(make_artifacts(models.dncnn(0), tmp_path_factory.mktemp("built"), tgdonnx.Phi(0.3)))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(6):
        array = rng.normal(size=(1, 3, 8, 6)).astype(np.float32)
        np.savez(tmp_path / f"{number}.npz", x=array, target=array)
    return tmp_path


@pytest.mark.parametrize("seed", [0, 3])
def test_of_a_split_the_part_that_was_held_out_is_compared(seed: int, files: Path, manifest: Manifest) -> None:
    reading = DataOptions(validation_split=0.4)
    _, held_out = open_training(files, manifest.inputs, reading, seed=seed)
    shown = ShownData.of_run(RunData(files, reading=reading), seed)
    assert held_out is not None
    assert (shown.role, shown.judges) == ("validation data", True)
    assert shown.open(manifest, None).cases == held_out.cases


def test_validation_data_comes_before_what_was_trained_on_which_judges_nothing(files: Path) -> None:
    assert ShownData.of_run(RunData("train.npz", validation=files), 0).data == files
    trained_on = ShownData.of_run(RunData(files), 0)
    assert (trained_on.data, trained_on.role, trained_on.judges) == (files, "training data", False)


def test_samples_are_whole_and_not_varied_where_the_model_takes_any_size(files: Path, manifest: Manifest) -> None:
    reading = DataOptions(patch=(4, 3), patches_per_epoch=9, augment=("flips",))
    dataset = ShownData.of_run(RunData(files, validation=files, reading=reading), 0).open(manifest, None)
    assert [batch[0].shape for batch in dataset.batches(1)] == [(1, 3, 8, 6)] * 6
