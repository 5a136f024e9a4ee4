"""Gradients of side paths against differences in float64, and the same steps by every engine that is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.adapting.networks import EVERYWHERE, NETWORKS, NORMED, adapter, input_of, tuned
from tests.blending.runs import STATE, tensors_in
from tests.oracles.float64 import Loss
from tests.support.models import save
from tests.support.sessions import open_session
from tgdonnx.engines.onnxruntime.state import State, read_state, write_state
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState
from tgdonnx.runtime import has_training_runtime

RATE = 0.5


@pytest.mark.parametrize("name", ["conv", NORMED, "matrices", "volumes"])
def test_a_step_goes_down_the_slope_of_every_part_of_a_path(name: str, tmp_path: Path) -> None:
    """One step of sgd, from numbers at which no gradient is zero."""
    first = tuned(NETWORKS[name], tmp_path)
    tgdonnx.build(
        tmp_path / "masked.onnx", tmp_path / "sgd", tgdonnx.BuildOptions(engine="onnxruntime", optimizer="sgd")
    )
    start, moved = read_state(tmp_path / "sgd" / STATE), read_state(first / STATE).tensors
    before = {key: moved[key] for key in start.tensors}
    write_state(tmp_path / "sgd" / STATE, State(before, start.updates, start.run))
    loss = Loss(onnx.load(tmp_path / "masked.onnx"), {"x": input_of(name)})
    names = [key for key in before if key.startswith("tgdonnx.adapter.") and key.endswith((".down", ".up"))]
    target = loss.aim(np.random.default_rng(1))
    session = Session(tmp_path / "sgd")
    session.step([[input_of(name), target]], RATE)
    session.save(session.manifest.runtime.checkpoint, RunState(0, 1, {}))
    after = read_state(tmp_path / "sgd" / STATE).tensors
    values = {key: before[key].astype(np.float64) for key in names}
    assert {key.rpartition(".")[2] for key in names} == {"down", "up"}
    for key in names:
        gradient = (values[key] - after[key].astype(np.float64)) / RATE
        direction = np.random.default_rng(2).normal(size=gradient.shape)
        expected = loss.slope(values, key, direction)
        size = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert size > 0
        assert abs((gradient * direction).sum() - expected) <= 1e-4 * size, key


@pytest.mark.parametrize("name", ["conv", NORMED, "groups"])
def test_frozen_bits_stay_and_every_engine_and_form_comes_to_the_same(name: str, tmp_path: Path) -> None:
    vendor = save(NETWORKS[name], tmp_path / "model.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    x = input_of(name)
    (output,) = open_session(vendor).run(None, {"x": x})
    y = np.random.default_rng(4).normal(size=output.shape).astype(np.float32)
    losses = {}
    for engine in ("onnxruntime", *["onnxruntime-training"] * has_training_runtime()):
        for form in ("masked", "thin"):
            directory = tmp_path / f"{engine}-{form}"
            tgdonnx.build(tmp_path / "masked.onnx", directory, tgdonnx.BuildOptions(engine=engine, form=form))
            session = Session(directory)
            losses[engine, form] = [loss for _ in range(10) for loss in session.step([[x, y]], 1e-2)]
            session.save(session.manifest.runtime.checkpoint, RunState(0, 10, {}))
            tgdonnx.export(directory, directory.with_suffix(".onnx"))
            assert tgdonnx.verify(vendor, directory.with_suffix(".onnx")).ok
            found = tensors_in(directory.with_suffix(".onnx"))
            assert all(found[key].tobytes() == array.tobytes() for key, array in tensors_in(vendor).items())
    first = losses["onnxruntime", "masked"]
    assert first[-1] < 0.98 * first[0]
    for other in losses.values():
        assert np.allclose(first, other, rtol=1e-4)
