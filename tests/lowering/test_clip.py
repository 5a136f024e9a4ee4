"""Clip with limits that filters compute."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from tests.gradients.checking import check_gradients, run
from tests.support.training_models import text_model
from tgdonnx.graphs.paths import gradient_path
from tgdonnx.lowering.clip import LowerClip

X = np.random.default_rng(5).normal(size=(2, 5)).astype(np.float32)
WEIGHTS = np.array([0.3, -1.2, 0.7, 1.6, -0.4], np.float32)


def network(clip: str) -> ir.Model:
    return ir.from_proto(
        text_model(
            f"""g (float[2, 5] x) => (float[2, 5] y) {{
                a = Mul(x, w) most = ReduceMax<keepdims = 0>(a) third = Mul(most, few) least = Neg(third)
                b = Sub(a, third) y = {clip}
            }}""",
            w=WEIGHTS,
            few=np.float32(0.3),
            fixed=np.float32(-0.5),
        )
    )


@pytest.mark.parametrize(
    "clip", ["Clip(b, least, third)", "Clip(b, fixed, third)", "Clip(b, least)", "Clip(b, , third)"]
)
def test_a_gradient_passes_the_limits_too(clip: str) -> None:
    original, model = ir.to_proto(network(clip)), network(clip)
    path = gradient_path(model.graph, ["w"])
    assert LowerClip(path)(model).modified
    proto = ir.to_proto(model)
    assert not any(node.op_type == "Clip" for node in proto.graph.node)
    np.testing.assert_array_equal(run(proto, {"x": X})[0], run(original, {"x": X})[0])
    stored = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in proto.graph.initializer}
    feeds = {"x": X.astype(np.float64), "w": stored.pop("w")}
    check_gradients(list(proto.graph.node), feeds, stored, wanted=["w", "x"], kinds=["static"])


def test_a_clip_with_fixed_limits_stays() -> None:
    model = network("Clip(b, fixed)")
    assert not LowerClip(gradient_path(model.graph, ["w"]))(model).modified
