"""What never trains, whatever is selected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.support import models
from tests.support.forging import body_of, entry, refused, tune_by_hand


def odd_tensors() -> onnx.ModelProto:
    """Two layers, and a scalar, integers and a tensor that nobody reads."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 3, H, W] x) => (float[N, 2, h, w] y, int64[2] z) {
            a = Conv(x, first)\n b = Mul(a, factor)\n c = Relu(b)\n y = Conv(c, second)\n z = Add(whole, whole) }"""
    )
    arrays = {
        "first": rng.normal(size=(5, 3, 3, 3)).astype(np.float32),
        "second": rng.normal(size=(2, 5, 1, 1)).astype(np.float32),
        "factor": np.array(1.5, np.float32),
        "whole": np.array([3, 4]),
        "unread": rng.normal(size=5).astype(np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("factor", "belongs to no filter of a layer"),
        ("whole", "is INT64; training handles"),
        ("unread", "is read by no node"),
    ],
)
@pytest.mark.parametrize("strategy", [tgdonnx.AllLayers(), tgdonnx.Filters({"first": [0, 2]})])
def test_scalars_integers_and_tensors_that_nobody_reads_never_train(
    strategy: tgdonnx.Strategy, name: str, why: str, tmp_path: Path
) -> None:
    base = models.save(odd_tensors(), tmp_path / "model.onnx")
    tgdonnx.mask(base, tmp_path / "masked.onnx", strategy)
    record = tune_by_hand(tmp_path / "masked.onnx", tmp_path / "tuned.onnx")
    body = body_of((tmp_path / "tuned.onnx").read_bytes(), record)
    assert tgdonnx.verify(base, tmp_path / "tuned.onnx").ok
    record["trained"][name] = {"retrain": [0], "kernels": None}
    (tmp_path / "tuned.onnx").write_bytes(body + entry(1, record))
    found = refused(base, tmp_path / "tuned.onnx")
    assert any(f"{name!r} is said to have trained, but it {why}" in each for each in found), found
