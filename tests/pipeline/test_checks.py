"""What is wrong is found before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.tuning import PHI, data_for, listing, options_for
from tgdonnx.errors import DataError, DivergedError, OutputError, SelectionError, TgdonnxError, UntrainableError

FAILURES: dict[str, tuple[dict[str, Any], type[TgdonnxError], str]] = {
    "nothing is selected": ({"strategy": tgdonnx.Phi(0.0)}, SelectionError, "phi = 0 selects no filter"),
    "phi out of range": ({"strategy": tgdonnx.Phi(1.5)}, SelectionError, r"phi in \[0, 1\]"),
    "data that does not fit": ({"data": {"x": np.zeros((2, 3, 7, 8), np.float32)}}, DataError, "no array 'target'"),
    "data that is not there": ({"data": "nowhere.npz"}, DataError, "nowhere.npz"),
    "a rate far too large": ({"training": tgdonnx.TrainOptions(30, 3, 1e25)}, DivergedError, "diverged"),
    "an output that is not there": ({"building": tgdonnx.BuildOptions(output="z")}, UntrainableError, "no output 'z'"),
    "per kernel with gates": (
        {"masking": tgdonnx.MaskOptions("readers"), "building": tgdonnx.BuildOptions(gradient="gate")},
        TgdonnxError,
        "per kernel",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_after_a_failure_nothing_is_written_and_nothing_left(case: str, tmp_path: Path, scratch: Path) -> None:
    changed, error, message = FAILURES[case]
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    arguments: dict[str, Any] = {
        "data": data_for(model),
        "strategy": tgdonnx.Phi(PHI),
        "training": options_for(),
        **changed,
    }
    with pytest.raises(error, match=message):
        tgdonnx.finetune(base, output=tmp_path / "tuned.onnx", **arguments)
    assert listing(tmp_path) == ["model.onnx"]
    assert listing(scratch) == []


def test_an_output_that_exists_is_found_before_any_work(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    (tmp_path / "tuned.onnx").write_text("mine")
    told: list[tgdonnx.Progress] = []
    with pytest.raises(OutputError, match="exists; pass `overwrite=True`"):
        tgdonnx.finetune(
            base,
            data_for(model),
            tmp_path / "tuned.onnx",
            tgdonnx.Phi(PHI),
            options_for(),
            watch=tgdonnx.Watch(on_progress=told.append),
        )
    assert (tmp_path / "tuned.onnx").read_text() == "mine"
    assert told == []
    tgdonnx.finetune(
        base,
        data_for(model),
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(PHI),
        options_for(),
        results=tgdonnx.Results(overwrite=True),
    )
    assert tgdonnx.verify(base, tmp_path / "tuned.onnx").ok


def test_the_vendors_file_is_never_its_own_output(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    before = base.read_bytes()
    with pytest.raises(OutputError):
        tgdonnx.finetune(
            base, data_for(model), base, tgdonnx.Phi(PHI), options_for(), results=tgdonnx.Results(overwrite=True)
        )
    assert base.read_bytes() == before
