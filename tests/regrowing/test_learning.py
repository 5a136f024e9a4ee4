"""Gradients reach what is reinitialised: its readers at the first step, itself at the second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.regrowing.starts import ANY_CHANGE, Case, reinitialized_in
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import random_feeds, save
from tests.support.trainer import open_trainer
from tests.sweeping.oracle import outputs
from tgdonnx.layers import Layer
from tgdonnx.selection import Filters

TRAINED = [name for name, topology in TOPOLOGIES.items() if topology.trains]


def kernels_of(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """A weight as the file stores it as (group, filters of a group, maps of a group, elements), by hand."""
    if layer.weight.name == "q1":
        weight = weight.transpose(3, 2, 0, 1)  # HWIO
    per_group = layer.filters // layer.group, layer.maps // layer.group
    if layer.op_type == "ConvTranspose":
        return weight.reshape(layer.group, per_group[1], per_group[0], -1).swapaxes(1, 2)
    if layer.op_type == "MatMul" or (layer.weight.name == "w4" and layer.op_type == "Gemm"):
        weight = weight.T
    return weight.reshape(layer.group, *per_group, -1)


def reinitialized_inputs(case: Case, layer: Layer) -> list[int]:
    """The input maps of a layer that reinitialised filters make."""
    names = {entry.index: entry.weight.name for entry in case.provenance.layers}
    return [
        c
        for c, origin in enumerate(case.provenance.layer_inputs[layer.index])
        if any(m in case.reinitialized.get(names[index], []) for index, m in origin.producers)
    ]


@pytest.mark.parametrize("kind", ["he", "clone", "calibrated"])
@pytest.mark.parametrize("name", TRAINED)
def test_readers_learn_at_once_and_reinitialized_filters_after_them(name: str, kind: str, tmp_path: Path) -> None:
    topology = TOPOLOGIES[name]
    model = topology.build()
    images = random_feeds(model, 7) if kind == "calibrated" else None
    case = reinitialized_in(model, tmp_path, Filters(topology.filters), kind, calibrate=images)
    reinitialization = tgdonnx.Reinitialization(kind, images, tolerance=ANY_CHANGE)
    chosen = tgdonnx.Filters(topology.filters)
    tgdonnx.mask(
        save(model, tmp_path / "m.onnx"),
        tmp_path / "masked.onnx",
        chosen,
        tgdonnx.MaskOptions(mode="regrow", reinitialization=reinitialization),
    )
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    trainer = open_trainer(tmp_path / "artifacts")
    feeds = random_feeds(model)
    target = np.random.default_rng(5).standard_normal(outputs(model, feeds)[0].shape).astype(np.float32)

    _, first = trainer.gradients(*feeds.values(), target)
    looked_at = 0
    for layer in case.provenance.layers:
        if layer.weight.name not in first:
            continue
        gradient, start = (kernels_of(layer, array[layer.weight.name]) for array in (first, trainer.parameters))
        own = case.reinitialized.get(layer.weight.name, [])
        for c in reinitialized_inputs(case, layer):
            group, place = divmod(c, gradient.shape[2])
            staying = [n for n in range(gradient.shape[1]) if group * gradient.shape[1] + n not in own]
            assert not start[group, staying, place].any()
            assert not staying or gradient[group, staying, place].any(), f"map {c} of {layer.name}"
            looked_at += bool(staying)
    assert looked_at

    trainer.step(1e-3, *feeds.values(), target)
    _, second = trainer.gradients(*feeds.values(), target)
    for layer in case.provenance.layers:
        for m in case.reinitialized.get(layer.weight.name, []):
            gradient = kernels_of(layer, second[layer.weight.name])
            group, place = divmod(m, gradient.shape[1])
            assert gradient[group, place].any(), f"filter {m} of {layer.name}"
