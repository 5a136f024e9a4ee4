"""Tuned files of several selections, honest until a test forges them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tgdonnx
from tests.support import models
from tests.support.forging import tune_by_hand
from tests.verifying.cases import PHI, Case


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, and for every selection a masked and a tuned model with its record."""
    directory = tmp_path_factory.mktemp("forgeries")
    models.save(models.dncnn(0), directory / "model.onnx")
    listed = tgdonnx.Filters({"w1": [1, 4], "w2": [0, 3]})
    plain = tgdonnx.MaskOptions()
    choices = {
        "paper": (tgdonnx.Phi(PHI), plain),
        "readers": (tgdonnx.Phi(PHI), tgdonnx.MaskOptions("readers")),
        "percentile": (tgdonnx.Percentile(30), plain),
        "last": (tgdonnx.LastLayers(2), plain),
        "list": (listed, plain),
        "without conv2": (tgdonnx.Phi(PHI), tgdonnx.MaskOptions(freeze=("conv2",))),
    }
    for name, (strategy, options) in choices.items():
        tgdonnx.mask(directory / "model.onnx", directory / f"{name}.masked.onnx", strategy, options)
        record = tune_by_hand(directory / f"{name}.masked.onnx", directory / f"{name}.tuned.onnx")
        (directory / f"{name}.json").write_text(json.dumps(record))
    return directory


@pytest.fixture
def case(made: Path, tmp_path: Path) -> Case:
    return Case(made, tmp_path, "paper")
