"""Targets as people have them, through `tgdonnx train`: what is taken trains as it should, what is not is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.commands import run, run_json
from tests.support.models import Array, save
from tests.support.training_models import text_model

CLASSES = 4
RNG = np.random.default_rng(8)
IMAGES = RNG.normal(size=(6, 2, 5, 7)).astype(np.float32)
PLACES = RNG.integers(0, CLASSES, (6, 5, 7))
FIRST = "y = Conv(x, w, b)"
LAST = "c = Conv(x, w, b)\n y = Transpose<perm = [0, 2, 3, 1]>(c)"
PROBABILITIES = "c = Conv(x, w, b)\n t = Transpose<perm = [0, 2, 3, 1]>(c)\n y = Softmax(t)"


def artifacts(directory: Path, nodes: str = FIRST) -> Path:
    output = "N, 4, H, W" if nodes == FIRST else "N, H, W, 4"
    text = f"g (float[N, 2, H, W] x) => (float[{output}] y) {{ {nodes} }}"
    model = save(text_model(text, w=(CLASSES, 2, 1, 1), b=(CLASSES,)), directory / "model.onnx")
    run_json("mask", model, "-o", directory / "masked.onnx", "--all")
    run_json("build", directory / "masked.onnx", "-o", directory / "art", "--loss", "ce", "--optimizer", "sgd")
    return directory / "art"


def save_data(directory: Path, target: Array) -> Path:
    np.savez(directory / "data.npz", x=IMAGES, target=target)
    return directory / "data.npz"


def losses(directory: Path, target: Array, nodes: str = FIRST) -> list[float]:
    directory.mkdir()
    built = artifacts(directory, nodes)
    data = save_data(directory, target)
    report = run_json("train", built, "--data", data, "--epochs", 3, "--lr", 0.5, "--batch", 2, "--validation", data)
    found: list[float] = report["loss"]
    return found


@pytest.mark.parametrize(
    "target",
    [
        PLACES.astype(np.int32),
        PLACES[:, None].astype(np.uint8),
        np.eye(CLASSES, dtype=np.float32)[PLACES].transpose(0, 3, 1, 2),
        PLACES.astype(np.float64),
    ],
)
def test_labels_in_other_forms_train_as_int64_ones_do(target: Array, tmp_path: Path) -> None:
    expected = losses(tmp_path / "a", PLACES)
    assert expected[-1] < expected[0]
    assert losses(tmp_path / "b", target) == expected


@pytest.mark.parametrize("nodes", [LAST, PROBABILITIES])
def test_a_model_with_classes_in_the_last_axis_trains_as_its_twin_with_classes_in_axis_1(
    nodes: str, tmp_path: Path
) -> None:
    expected = losses(tmp_path / "a", PLACES)
    np.testing.assert_allclose(losses(tmp_path / "b", PLACES, nodes), expected, rtol=1e-5)


def test_metrics_of_a_model_with_classes_in_the_last_axis_compare_classes(tmp_path: Path) -> None:
    accuracies = []
    for nodes in (FIRST, LAST):
        directory = tmp_path / str(len(accuracies))
        directory.mkdir()
        built, data = artifacts(directory, nodes), save_data(directory, PLACES)
        result: Any = run("train", built, "--data", data, "--epochs", 1, "--validation", data, "--metric", "accuracy")
        assert result.exit_code == 0, result.stderr
        accuracies.append(next(line for line in result.stdout.splitlines() if line.startswith("accuracy")))
    assert accuracies[0] == accuracies[1]
