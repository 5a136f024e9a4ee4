"""Masks in short, for the records of training: they are read back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import models
from tests.support.models import MODELS, Builder, save
from tgdonnx.layers import open_network
from tgdonnx.records import decode_mask, encode_mask
from tgdonnx.selection import PLAN_MODES, Phi, PlanMode, plan_masks, select
from tgdonnx.tracing import trace_network


@pytest.fixture(scope="module")
def networks_of_all(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("networks")
    return {name: open_network(save(builder(0), directory / f"{name}.onnx")) for name, builder in MODELS.items()}


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_mask_in_short_is_read_back_as_it_was(networks_of_all: dict[str, Any], data: st.DataObject) -> None:
    network = networks_of_all[data.draw(st.sampled_from(sorted(networks_of_all)))]
    weights = [layer.weight for layer in network.layers]
    parameter = data.draw(st.sampled_from(weights))
    per_axis = [data.draw(st.sampled_from([1, dim])) for dim in parameter.shape]
    if data.draw(st.booleans()):
        per_axis[0] = parameter.shape[0]
        per_axis[1:] = [1] * (len(per_axis) - 1)
    bits = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = (bits.random(per_axis) < data.draw(st.sampled_from([0.0, 0.2, 0.8, 1.0]))).astype(np.float32)
    retrain, kernels = encode_mask(values, network, parameter.name)
    read = decode_mask(json.loads(json.dumps(retrain)), kernels, network, parameter.name)
    np.testing.assert_array_equal(np.broadcast_to(read, parameter.shape), np.broadcast_to(values, parameter.shape))
    assert read.dtype == np.float32
    whole = np.broadcast_to(values, parameter.shape).reshape(parameter.shape[0], -1).all(axis=1)
    assert retrain == tuple(np.flatnonzero(whole))
    rows = np.broadcast_to(values, parameter.shape).reshape(parameter.shape[0], -1)
    assert (kernels is None) == (rows == whole[:, None]).all()


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_planned_masks_in_short_are_read_back_as_they_were(builder: Builder, mode: PlanMode, tmp_path: Path) -> None:
    network = open_network(save(builder(0), tmp_path / "model.onnx"))
    provenance = trace_network(network)
    for entry in plan_masks(provenance, select(provenance, Phi(0.4)), mode):
        name, shape = entry.parameter.name, entry.parameter.shape
        retrain, kernels = encode_mask(entry.values, network, name)
        assert mode == "readers" or kernels is None
        read = decode_mask(retrain, kernels, network, name)
        np.testing.assert_array_equal(np.broadcast_to(read, shape), np.broadcast_to(entry.values, shape), err_msg=name)


@pytest.mark.parametrize("kernels", ["", "6x8x1x1", "6x8x1x1:", "6x8x1x1:!!", "axb:eJw=", "6x8x1x1:AAAA"])
def test_a_mask_in_short_that_was_not_written_so_is_refused(kernels: str, tmp_path: Path) -> None:
    network = open_network(save(models.chain(), tmp_path / "model.onnx"))
    with pytest.raises(ValueError):  # noqa: PT011  # of several makers
        decode_mask([], kernels, network, "w2")
