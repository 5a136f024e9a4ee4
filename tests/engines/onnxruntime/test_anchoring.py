"""What ``l2_sp`` pulls to can be moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.trainer import make_artifacts, open_trainer, relative_error
from tgdonnx.engines.onnxruntime.anchoring import pull_to
from tgdonnx.errors import ArtifactsError

PULL = 3.5


def batch() -> tuple[models.Array, models.Array]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
    return x, (x + rng.normal(0, 0.1, x.shape)).astype(np.float32)


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_the_gradient_is_that_of_the_loss_and_the_way_from_the_new_place(form: str, tmp_path: Path) -> None:
    found = {}
    for pull in (0.0, PULL):
        folder = tmp_path / str(pull)
        folder.mkdir()
        directory = make_artifacts(
            models.dncnn(2), folder, tgdonnx.Filters({"w1": [1], "w2": [0, 9]}), l2_sp=pull, form=form
        )
        start = open_trainer(directory).parameters
        there = {name: values - np.float32(0.25) for name, values in start.items()}
        if pull:
            pull_to(directory, there)
        found[pull] = open_trainer(directory).gradients(*batch())[1]
    for name, gradient in found[PULL].items():
        moving = found[0.0][name] != 0  # the mask comes after the pull
        assert moving.any(), name
        expected = np.where(moving, found[0.0][name] + PULL * 0.25, 0)
        assert relative_error(gradient, expected) < 1e-6, name


def test_models_without_a_pull_are_refused(tmp_path: Path) -> None:
    directory = make_artifacts(models.dncnn(2), tmp_path, tgdonnx.Filters({"w2": [0]}))
    before = (directory / "step.onnx").read_bytes()
    with pytest.raises(ArtifactsError, match=r"step\.onnx has nothing that pulls .* build the artifacts with `l2_sp`"):
        pull_to(directory, open_trainer(directory).parameters)
    assert (directory / "step.onnx").read_bytes() == before
