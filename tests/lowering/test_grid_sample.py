"""GridSample lowered to a sum of gathered pixels: as the runtime samples, and with the gradient of the image."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lowering.geometry_check import (
    Array,
    gradients,
    leaves_alone,
    linear_gradient,
    lowered_by,
    node_model,
    relative_error,
)
from tests.lowering.graphs import run
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.grid_sample import LowerGridSample

Sample = tuple[onnx.ModelProto, dict[str, Array]]


@st.composite
def nodes(draw: st.DrawFn) -> Sample:
    """A node and what to feed."""
    opset = draw(st.sampled_from([16, 17, 18, 19, 20, 21]))
    rank = draw(st.integers(2, 3)) if opset >= 20 else 2
    modes = ["linear", "nearest"] + ["cubic"] * (rank == 2) if opset >= 20 else ["bilinear", "nearest", "bicubic"]
    n, c = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    image = draw(st.lists(st.integers(2, 5), min_size=rank, max_size=rank))
    output = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    grid = rng.uniform(-1.7, 1.7, size=(n, *output, rank))
    if draw(st.booleans()):
        grid = np.round(grid * 2) / 2  # on borders and midway between pixels
    inputs = {"x": rng.normal(size=(n, c, *image)).astype(np.float32), "grid": grid.astype(np.float32)}
    constants = draw(st.sampled_from([[], [], ["grid"]]))
    model = node_model(
        "GridSample",
        inputs,
        opset=opset,
        constants=constants,
        dynamic=draw(st.sampled_from([[], [0], list(range(rank + 2))])),
        mode=draw(st.sampled_from(modes)),
        padding_mode=draw(st.sampled_from(["zeros", "border", "reflection"])),
        align_corners=draw(st.integers(0, 1)),
    )
    return model, {name: array for name, array in inputs.items() if name not in constants}


@settings(deadline=None, max_examples=150)
@given(nodes())
def test_computes_what_the_original_computes(sample: Sample) -> None:
    model, feeds = sample
    lower = lowered_by(LowerGridSample(), model)
    expected = run(model, feeds)
    assert np.abs(run(lower, feeds) - expected).max() <= 2e-6 * max(1, np.abs(feeds["x"]).max())
    assert "GridSample" not in [node.op_type for node in lower.graph.node]


@settings(deadline=None, max_examples=40)
@given(nodes(), st.integers(0, 99))
def test_has_the_gradient_of_the_original_by_the_image(sample: Sample, seed: int) -> None:
    model, feeds = sample
    target = np.random.default_rng(seed).normal(size=run(model, feeds).shape).astype(np.float32)
    found = gradients(lowered_by(LowerGridSample(), model), feeds, target, ["x"])["x"]
    expected = linear_gradient(model, feeds, target, "x")
    assert np.abs(found - expected).max() <= 2e-6 * max(1, np.abs(target).max()) * 4


def test_of_a_constant_grid_and_image_size_only_the_picking_is_left() -> None:
    inputs = {"x": np.ones((1, 2, 3, 4), np.float32), "grid": np.zeros((1, 2, 2, 2), np.float32)}
    lower = lowered_by(
        LowerGridSample(), node_model("GridSample", inputs, opset=20, constants=["grid"], mode="nearest")
    )
    assert not {node.op_type for node in lower.graph.node} & {"Floor", "Round", "Less", "Max"}


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_has_the_gradient_of_the_original_by_the_grid(mode: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.normal(size=(1, 2, 5, 6)).astype(np.float32),
        "grid": rng.uniform(-0.9, 0.9, size=(1, 3, 3, 2)).astype(np.float32),
    }
    target = rng.normal(size=(1, 2, 3, 3)).astype(np.float32)
    model = node_model("GridSample", feeds, opset=20, mode=mode)
    found = gradients(lowered_by(LowerGridSample(), model), feeds, target, ["grid"])["grid"]
    expected = np.zeros(found.shape)
    for place in np.ndindex(*found.shape):  # no step of 1e-3 crosses from one pixel to the next
        low, high = feeds["grid"].copy(), feeds["grid"].copy()
        low[place] -= 1e-3
        high[place] += 1e-3
        moved = run(model, {**feeds, "grid": high}).astype(np.float64) - run(model, {**feeds, "grid": low})
        expected[place] = np.sum(moved * target) / (float(high[place]) - float(low[place]))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_refuses_a_mode_that_onnx_does_not_define() -> None:
    inputs = {"x": np.ones((1, 2, 3, 4), np.float32), "grid": np.zeros((1, 2, 2, 2), np.float32)}
    with pytest.raises(UntrainableError, match=r"'node' \(GridSample\) has the mode 'sinc'"):
        lowered_by(LowerGridSample(), node_model("GridSample", inputs, opset=20, mode="sinc"))


def test_refuses_an_input_of_unknown_rank() -> None:
    inputs = {"x": np.ones((1, 2, 3, 4), np.float32), "grid": np.zeros((1, 2, 2, 2), np.float32)}
    model = node_model("GridSample", inputs, opset=20)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UntrainableError, match=r"'node' \(GridSample\) has an input whose rank is not known"):
        lowered_by(LowerGridSample(), model)


def test_leaves_other_types_alone() -> None:
    inputs = {"x": np.ones((1, 2, 3, 4), np.float64), "grid": np.zeros((1, 2, 2, 2), np.float64)}
    assert leaves_alone(LowerGridSample(), node_model("GridSample", inputs, opset=20))


def test_samples_images_of_any_size() -> None:
    inputs = {"x": np.ones((1, 2, 3, 4), np.float32), "grid": np.zeros((1, 2, 2, 2), np.float32)}
    model = node_model("GridSample", inputs, opset=20, dynamic=[0, 1, 2, 3], mode="linear")
    del model.graph.input[1].type.tensor_type.shape.dim[:]
    for name in "ABCD":
        model.graph.input[1].type.tensor_type.shape.dim.add().dim_param = name
    lower = lowered_by(LowerGridSample(), model)
    rng = np.random.default_rng(0)
    for shape, output in (((2, 3, 5, 4), (3, 7)), ((1, 1, 1, 9), (1, 2))):
        grid = rng.uniform(-1, 1, (shape[0], *output, 2)).astype(np.float32)
        feeds = {"x": rng.normal(size=shape).astype(np.float32), "grid": grid}
        assert relative_error(run(lower, feeds), run(model, feeds)) <= 2e-6
