"""DepthToSpace and SpaceToDepth lowered to swaps of axes: the same pixels, and the gradient in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lowering.geometry_check import Array, gradients, leaves_alone, lowered_by, node_model
from tests.lowering.graphs import run
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.depth_space import LowerDepthSpace

OTHER = {"DepthToSpace": "SpaceToDepth", "SpaceToDepth": "DepthToSpace"}


@st.composite
def nodes(draw: st.DrawFn) -> tuple[onnx.ModelProto, Array]:
    """A node and its input."""
    op_type, opset, block = draw(st.sampled_from([*OTHER])), draw(st.integers(8, 21)), draw(st.integers(1, 4))
    n, c, h, w = draw(st.lists(st.integers(1, 4), min_size=4, max_size=4))
    shape = (n, c * block**2, h, w) if op_type == "DepthToSpace" else (n, c, h * block, w * block)
    attributes: dict[str, Any] = {"blocksize": block}
    if op_type == "DepthToSpace" and opset >= 11 and draw(st.booleans()):
        attributes["mode"] = draw(st.sampled_from(["DCR", "CRD"]))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    dynamic = draw(st.sampled_from([[], [0], [2, 3], [0, 2, 3], [0, 1, 2, 3]]))
    return node_model(op_type, {"x": x}, opset=opset, dynamic=dynamic, **attributes), x


@settings(deadline=None, max_examples=200)
@given(nodes())
def test_moves_every_pixel_where_the_original_does(sample: tuple[onnx.ModelProto, Array]) -> None:
    model, x = sample
    lower = lowered_by(LowerDepthSpace(), model)
    assert np.array_equal(run(lower, {"x": x}), run(model, {"x": x}))
    assert {node.op_type for node in lower.graph.node}.isdisjoint(OTHER)


@pytest.mark.training
@settings(deadline=None, max_examples=60)
@given(nodes())
def test_moves_every_gradient_back(sample: tuple[onnx.ModelProto, Array]) -> None:
    model, x = sample
    places = np.arange(x.size, dtype=np.float32).reshape(x.shape)
    moved = run(model, {"x": places})
    found = gradients(lowered_by(LowerDepthSpace(), model), {"x": x}, moved, ["x"])["x"]
    assert np.array_equal(found, places)


def test_swaps_two_neighbouring_axes_at_a_time_because_the_runtime_is_slow_at_more() -> None:
    x = np.ones((1, 12, 3, 4), np.float32)
    lower = lowered_by(LowerDepthSpace(), node_model("DepthToSpace", {"x": x}, opset=17, blocksize=2))
    for node in lower.graph.node:
        if node.op_type == "Transpose":
            moved = [axis for axis, source in enumerate(node.attribute[0].ints) if axis != source]
            assert moved in ([1, 2], [2, 3])


def test_an_input_of_unknown_rank_is_an_image() -> None:
    x = np.random.default_rng(0).normal(size=(2, 8, 3, 4)).astype(np.float32)
    model = node_model("DepthToSpace", {"x": x}, opset=17, blocksize=2)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    lower = lowered_by(LowerDepthSpace(), model, check=False)
    assert np.array_equal(run(lower, {"x": x}), run(model, {"x": x}))


def test_refuses_what_is_no_image() -> None:
    model = node_model("DepthToSpace", {"x": np.ones((4, 3, 4), np.float32)}, opset=17, blocksize=2)
    with pytest.raises(UntrainableError, match=r"'node' \(DepthToSpace\) has an input of rank 3; it must be 4"):
        lowered_by(LowerDepthSpace(), model)


def test_leaves_other_types_alone() -> None:
    model = node_model("SpaceToDepth", {"x": np.ones((1, 4, 4, 4), np.float64)}, opset=17, blocksize=2)
    assert leaves_alone(LowerDepthSpace(), model)
