"""Filters that only the branches of an If read, whose condition is computed, in both forms of artifacts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.engines.onnxruntime.artifact_gradients import gradients_of, part_of
from tests.oracles.float64 import Loss
from tests.support import models
from tests.support.training_models import text_model

# The axes are stored outside the branches, where inference inside does not see them; so no rank behind Squeeze is known
# unless they are handed down.
TEXT = """g (float[N, 3, 5, 6] x, float t) => (float[N, 5, 1] y) {
    a = Conv(x, first)
    c = Greater(t, zero)
    y = If<then_branch = p () => (u) { u0 = Conv(a, then_w) u1 = ReduceMean<axes = [2]>(u0) u2 = Squeeze(u1, rows)
                                       u3 = ReduceMean<axes = [2], keepdims = 0>(u2) u = Unsqueeze(u3, columns) },
           else_branch = q () => (v) { v0 = Conv(a, else_w) v1 = Tanh(v0) v2 = GlobalAveragePool(v1) v = Squeeze(v2, rows) }>(c)
}"""


def branched() -> onnx.ModelProto:
    return text_model(
        TEXT,
        first=(4, 3, 2, 2),
        then_w=(5, 4, 3, 3),
        else_w=(5, 4, 2, 3),
        zero=np.float32(0),
        rows=np.array([2]),
        columns=np.array([2]),
    )


@pytest.mark.parametrize("form", ["masked", "thin"])
@pytest.mark.parametrize("taken", [1.0, -1.0], ids=["then", "else"])
def test_gradients_of_filters_inside_the_branches_are_the_slopes(form: str, taken: float, tmp_path: Path) -> None:
    model = branched()
    path = models.save(model, tmp_path / "model.onnx")
    rows = {"first": [1, 3], "then_w": [0, 4], "else_w": [2]}
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.Filters(rows))
    tgdonnx.build(
        tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime", form=form)
    )
    rng = np.random.default_rng(7)
    feeds = {"x": rng.normal(size=(2, 3, 5, 6)).astype(np.float32), "t": np.asarray(taken, np.float32)}
    loss = Loss(model, feeds)
    target = loss.aim(rng)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = gradients_of(tmp_path / "artifacts", [*feeds.values(), target])
    assert {tensor.vendor_name for tensor, _ in found} == set(rows)
    for tensor, gradient in found:
        name = tensor.vendor_name
        assert (tensor.part is not None) == (form == "thin"), name
        expected = np.zeros(stored[name].shape)
        for index in np.ndindex(expected.shape):
            step = np.zeros(expected.shape)
            step[index] = 1e-6
            expected[index] = (
                loss({**stored, name: stored[name] + step}) - loss({**stored, name: stored[name] - step})
            ) / 2e-6
        expected = part_of(expected, tensor)
        np.testing.assert_allclose(gradient, expected, atol=2e-6 * max(np.abs(expected).max(), 1e-2), err_msg=name)
        other = {1.0: "else_w", -1.0: "then_w"}[taken]
        assert gradient.any() == (name != other)
