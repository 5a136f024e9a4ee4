"""The steepness and the Fisher information of filters, against PyTorch's gradients of single samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.oracles.numpy_net import NumpyNet
from tests.pytorch.operators import gradients, tensor_of
from tests.support import models
from tests.support.models import Array, Builder
from tests.support.sessions import open_session
from tgdonnx.layers import open_network
from tgdonnx.sensitivity import sensitivity

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("builder", [models.dncnn, models.residual, models.grouped, models.one_d])
def test_they_are_those_of_pytorch(builder: Builder, tmp_path: Path) -> None:
    model = builder(0)
    samples = [models.random_feeds(model, seed) for seed in range(4)]
    feeds = {name: np.concatenate([each[name][:1] for each in samples]) for name in samples[0]}
    y: Array = open_session(model).run(None, feeds)[0]
    target = (y / 2).astype(np.float32)  # no difference of two like numbers, of which float32 would leave little
    network = open_network(models.save(model, tmp_path / "model.onnx"))
    data = tgdonnx.RunData({**feeds, "target": target})
    found = sensitivity(network, data, tgdonnx.BuildOptions(), tgdonnx.TrainOptions())
    assert found.samples == 4
    names, stored = list(found.weights), NumpyNet(model).tensors
    each: dict[str, list[Array]] = {name: [] for name in names}
    for place in range(4):
        wide = tensor_of(target[place : place + 1])
        one = {name: array[place : place + 1] for name, array in feeds.items()}
        starts = {name: stored[name] for name in names}
        slopes = gradients(model, one, names, lambda outputs, wide=wide: ((outputs[0] - wide) ** 2).mean(), starts)[1]
        for name in names:
            each[name].append(slopes[name])
    for name in names:
        count = len(stored[name])
        rows = np.stack([array.reshape(count, -1) for array in each[name]])
        norm = np.linalg.norm(stored[name].reshape(count, -1), axis=1)
        steepness = np.linalg.norm(rows.mean(axis=0), axis=1) / norm
        fisher = (rows**2).mean(axis=(0, 2))
        np.testing.assert_allclose(found.steepness[name], steepness, rtol=1e-4, atol=1e-6 * float(steepness.max()))
        np.testing.assert_allclose(found.fisher[name], fisher, rtol=1e-4, atol=1e-6 * float(fisher.max()))
