"""The page of a run of mode adapter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tgdonnx
from tests.adapting.networks import EVERYWHERE, NETWORKS, adapter, input_of
from tests.reporting.pages import made
from tests.support.models import save
from tests.support.sessions import open_session


def test_a_page_says_that_side_paths_are_added_and_nothing_else_changed(tmp_path: Path) -> None:
    vendor = save(NETWORKS["conv"], tmp_path / "model.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    x = input_of("conv")
    (output,) = open_session(vendor).run(None, {"x": x})
    tgdonnx.train(tmp_path / "artifacts", {"x": x, "target": output + np.float32(1)}, tgdonnx.TrainOptions(steps=2))
    text = " ".join(made(tmp_path).one("header").text.split())
    assert "side paths beside its layers were trained on new data." in text
    assert "Verified: nothing but side paths is added to the vendor's file." in text
    assert "every tensor of the vendor's is as it was." in text
    assert "retrained filters" not in text
