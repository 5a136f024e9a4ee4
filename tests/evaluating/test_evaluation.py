"""Both files over a data set: in batches that fit, every case once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.trainer import make_artifacts
from tgdonnx.artifacts import Manifest, read_manifest
from tgdonnx.data import open_dataset
from tgdonnx.evaluating.evaluation import evaluate_files, ways_to_measure
from tgdonnx.evaluating.running import NotShownError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path_factory.mktemp("built"), tgdonnx.Phi(0.3))


@pytest.fixture(scope="module")
def manifest(built: Path) -> Manifest:
    return read_manifest(built)


def data(samples: int, *size: int) -> dict[str, np.ndarray]:
    target = np.random.default_rng(0).normal(size=(samples, 3, *size)).astype(np.float32)
    return {"x": target + np.arange(1, samples + 1, dtype=np.float32)[:, None, None, None], "target": target}


@pytest.mark.parametrize(("samples", "size", "batches"), [(11, (4, 5), [8, 3]), (2, (512, 512), [1, 1])])
def test_large_samples_go_one_by_one_and_every_case_is_measured_once(
    samples: int, size: tuple[int, int], batches: list[int], built: Path, manifest: Manifest
) -> None:
    seen: list[int] = []

    def copy(arrays: Any) -> list[np.ndarray]:
        seen.append(len(arrays[0]))
        return [arrays[0]]

    def halve(arrays: Any) -> list[np.ndarray]:
        return [arrays[0] / 2]

    dataset = open_dataset(data(samples, *size), manifest.inputs)
    first = next(dataset.batches(1))
    ways = ways_to_measure(built, manifest, dataset, [first[0]])
    found = evaluate_files([copy, halve], dataset, ways, manifest, data="validation data")
    assert seen == batches
    (output,) = found.outputs
    assert output.metrics == ("psnr", "rmse")
    assert output.before.per_case("rmse") == pytest.approx(np.arange(1, samples + 1), rel=1e-5)
    assert output.before.score("rmse") == pytest.approx((samples + 1) / 2, rel=1e-5)
    assert output.after.score("rmse") != output.before.score("rmse")


def test_an_output_that_does_not_fit_the_target_is_a_reason(built: Path, manifest: Manifest) -> None:
    dataset = open_dataset(data(2, 4, 5), manifest.inputs)
    first = next(dataset.batches(1))
    ways = ways_to_measure(built, manifest, dataset, [first[0]])
    runs = [lambda arrays: [np.concatenate([arrays[0]] * 2, 2)]] * 2
    with pytest.raises(NotShownError, match=r"The output has shape \[2, 3, 8, 5\], the target \[2, 3, 4, 5\]"):
        evaluate_files(runs, dataset, ways, manifest, data="validation data")
