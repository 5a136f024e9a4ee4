"""Resize and Upsample lowered to copies and matrix products: as the runtime resizes, and with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
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
from tgdonnx.lowering.resize import LowerResize

Sample = tuple[onnx.ModelProto, dict[str, Array]]

FACTORS = [1.0, 2.0, 2.0, 3.0, 4.0, 1.5, 2.5, 1.2, 7 / 3]
SMALLER = [0.5, 0.6, 0.25, 1 / 3, 0.9]
COORDINATES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_crop_and_resize"]


@st.composite
def upsamples(draw: st.DrawFn) -> Sample:
    """An Upsample, or a Resize of opset 10, and what to feed."""
    opset = draw(st.integers(8, 10))
    mode = draw(st.sampled_from(["nearest", "linear"]))
    shape, axes = draw_shape(draw, mode)
    scales = np.ones(len(shape), np.float32)
    # To the nearest, what grows and shrinks at once may be refused: see test_raising.
    all_factors = FACTORS + SMALLER if mode == "linear" else draw(st.sampled_from([FACTORS, SMALLER]))
    for axis in axes:
        scales[axis] = draw(st.sampled_from(FACTORS if opset < 10 else all_factors))
    shape = enlarged(shape, scales)
    inputs = {"x": np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape).astype(np.float32)}
    constants, attributes = [], {"mode": mode}
    if opset == 8:
        attributes["scales"] = [float(scale) for scale in scales]
    else:
        inputs["scales"] = scales
        known = opset == 10 and mode == "nearest"
        constants = ["scales"] if known else draw(st.sampled_from([[], ["scales"]]))
    dynamic = [] if opset == 8 else draw(st.sampled_from([[], [0], list(range(len(shape)))]))
    op_type = "Resize" if opset == 10 else "Upsample"
    model = node_model(op_type, inputs, opset=opset, constants=constants, dynamic=dynamic, **attributes)
    return model, {name: array for name, array in inputs.items() if name not in constants}


def draw_shape(draw: st.DrawFn, mode: str) -> tuple[list[int], list[int]]:
    """A shape, and the axes of it that the runtime resizes in a mode."""
    rank = draw(st.sampled_from({"nearest": [1, 2, 3, 4, 5], "linear": [2, 3, 4, 5], "cubic": [2, 4]}[mode]))
    shape = draw(st.lists(st.integers(1, 6 if rank < 5 else 3), min_size=rank, max_size=rank))
    everything = mode == "nearest" or rank < 4
    return shape, list(range(rank)) if everything else draw(st.sampled_from([list(range(2, rank))] * 4 + [[rank - 2]]))


def enlarged(shape: list[int], scales: Array) -> list[int]:
    """The shape, with no axis so short that nothing would be left of it."""
    for axis, scale in enumerate(scales):
        while int(scale * np.float32(shape[axis])) < 1:
            shape[axis] += 1
    return shape


@st.composite
def resizes(draw: st.DrawFn) -> Sample:
    """A Resize from opset 11 on, and what to feed."""
    opset = draw(st.sampled_from([11, 12, 13, 14, 17, 18, 19, 20, 21]))
    mode = draw(st.sampled_from(["nearest", "nearest", "linear", "cubic"]))
    coordinates = COORDINATES + ["tf_half_pixel_for_nn"] * (opset < 13) + ["half_pixel_symmetric"] * (opset >= 19)
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(coordinates))}
    if mode == "nearest":
        modes = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attributes["nearest_mode"] = draw(st.sampled_from(modes))
    if mode == "cubic":
        attributes["cubic_coeff_a"] = draw(st.sampled_from([-0.5, -0.75]))
        attributes["exclude_outside"] = draw(st.integers(0, 1))
    shape, chosen = draw_shape(draw, mode)
    rank = len(shape)
    scales = np.ones(rank, np.float32)
    for axis in chosen:
        scales[axis] = draw(st.sampled_from(FACTORS + SMALLER))
    shape = enlarged(shape, scales)
    by_sizes = draw(st.booleans())
    axes = list(range(rank))
    if opset >= 18 and draw(st.booleans()):
        axes = attributes["axes"] = draw(st.permutations(chosen))
        if by_sizes:
            policies = ["stretch", "not_larger", "not_smaller"]
            attributes["keep_aspect_ratio_policy"] = draw(st.sampled_from(policies))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    inputs: dict[str, Any] = {"x": rng.normal(size=shape).astype(np.float32), "roi": None}
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        region = [rng.uniform(-0.3, 0.5, len(axes)), rng.uniform(0.5, 1.3, len(axes))]
        inputs["roi"] = np.concatenate(region).astype(np.float32)
        attributes["extrapolation_value"] = draw(st.sampled_from([0.0, 1.5]))
    elif opset < 13 or draw(st.booleans()):
        inputs["roi"] = np.zeros(0, np.float32)
    inputs["scales"] = scales[axes]
    if by_sizes:
        inputs["scales"] = np.zeros(0, np.float32) if opset < 13 or draw(st.booleans()) else None
        inputs["sizes"] = (scales * np.array(shape, np.float32)).astype(np.int64)[axes]
    constants = [name for name in ("roi", "scales", "sizes") if inputs.get(name) is not None and draw(st.booleans())]
    constants += [name for name in ("roi", "scales") if inputs[name] is not None and not inputs[name].size]
    dynamic = draw(st.sampled_from([[], [0], list(range(rank)), chosen]))
    model = node_model("Resize", inputs, opset=opset, constants=constants, dynamic=dynamic, **attributes)
    feeds = {name: array for name, array in inputs.items() if array is not None and name not in constants}
    return model, feeds


@settings(deadline=None, max_examples=250)
@given(st.one_of(resizes(), resizes(), upsamples()))
def test_computes_what_the_original_computes(sample: Sample) -> None:
    model, feeds = sample
    expected = run(model, feeds)
    assume(expected.size > 0)
    lower = lowered_by(LowerResize(), model)
    # The weights that exclude_outside leaves may nearly cancel.
    excludes = any(attribute.name == "exclude_outside" and attribute.i for attribute in model.graph.node[0].attribute)
    scale = max(np.abs(expected).max(), np.abs(feeds["x"]).max())
    assert np.abs(run(lower, feeds) - expected).max() <= (8e-6 if excludes else 2e-6) * scale


@settings(deadline=None, max_examples=60)
@given(st.one_of(resizes(), resizes(), upsamples()), st.integers(0, 99))
def test_has_the_gradient_of_the_original(sample: Sample, seed: int) -> None:
    model, feeds = sample
    assume(feeds["x"].size < 150)
    shape = run(model, feeds).shape
    assume(0 not in shape)
    target = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    found = gradients(lowered_by(LowerResize(), model), feeds, target, ["x"])["x"]
    expected = linear_gradient(model, feeds, target, "x")
    assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


def resize(
    x: Array, scales: list[float], *, opset: int = 17, dynamic: tuple[int, ...] = (), **attributes: Any
) -> onnx.ModelProto:
    inputs = {"x": x, "roi": np.zeros(0, np.float32), "scales": np.array(scales, np.float32)}
    return node_model("Resize", inputs, opset=opset, constants=["roi", "scales"], dynamic=dynamic, **attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("dynamic", [(), (0, 2, 3)])
def test_rounds_coordinates_as_the_runtime_does_far_from_the_origin(
    mode: str, coordinates: str, dynamic: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 3, 700)).astype(np.float32)
    model = resize(x, [1, 1, 1, 2.7], mode=mode, coordinate_transformation_mode=coordinates, dynamic=dynamic)
    assert relative_error(run(lowered_by(LowerResize(), model), {"x": x}), run(model, {"x": x})) <= 2e-6


@pytest.mark.training  # newer runtimes round some coordinates otherwise: half_pixel, round_prefer_floor, scale 1.3
@pytest.mark.parametrize("scale", [1 / 3, 0.7, 1.3, 3.0, 4.1])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "asymmetric"])
def test_picks_the_pixels_that_the_runtime_picks_far_from_the_origin(
    scale: float, rounding: str, coordinates: str
) -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 1, 500)).astype(np.float32)
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    for dynamic in ((), (3,)):
        model = resize(x, [1, 1, 1, scale], mode="nearest", dynamic=dynamic, **attributes)
        assert np.array_equal(run(lowered_by(LowerResize(), model), {"x": x}), run(model, {"x": x}))


@pytest.mark.parametrize(
    ("opset", "attributes"),
    [
        (10, {}),
        (11, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
        (13, {"coordinate_transformation_mode": "half_pixel"}),
        (19, {"coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": "round_prefer_ceil"}),
    ],
)
def test_growing_nearest_by_an_integer_is_copies_without_a_product(opset: int, attributes: dict[str, Any]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    if opset == 10:
        inputs = {"x": x, "scales": np.array([1, 1, 2, 3], np.float32)}
        model = node_model("Resize", inputs, opset=10, constants=["scales"], dynamic=[0, 2, 3], mode="nearest")
    else:
        model = resize(x, [1, 1, 2, 3], opset=opset, dynamic=(0, 2, 3), mode="nearest", **attributes)
    lower = lowered_by(LowerResize(), model)
    assert np.array_equal(run(lower, {"x": x}), run(model, {"x": x}))
    operators = {node.op_type for node in lower.graph.node}
    assert "Concat" in operators
    assert not operators & {"MatMul", "Gather", "Expand"} - {"Gather"}


def test_never_gathers_activations() -> None:
    x = np.ones((1, 2, 4, 5), np.float32)
    for mode in ("nearest", "linear", "cubic"):
        lower = lowered_by(LowerResize(), resize(x, [1, 1, 1.5, 0.6], mode=mode, dynamic=(0, 2, 3)))
        assert not [node for node in lower.graph.node if node.op_type == "Gather" and node.input[0] == "x"]


def test_sizes_that_nodes_compute_from_constants_count_as_known() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]>
        g (float[N, 2, 3, 4] x) => (float[N, 2, 6, 8] y) <float[4] one = {1, 1, 1, 1}, float[4] f = {1, 1, 2, 2}> {
            s = Mul(one, f)
            y = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)
        }"""
    )
    x = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
    lower = lowered_by(LowerResize(), model)
    assert np.array_equal(run(lower, {"x": x}), run(model, {"x": x}))
    assert "MatMul" not in [node.op_type for node in lower.graph.node]


def test_resizing_to_the_size_of_another_map_is_computed_while_running() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 2, H, W] x, float[N, 2, h, w] skip) => (float[N, 2, h, w] y)
        <int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}> {
            a = Shape(x)
            head = Slice(a, zero, two)
            b = Shape(skip)
            tail = Slice(b, two, four)
            sizes = Concat<axis = 0>(head, tail)
            r = Resize<mode = "linear", coordinate_transformation_mode = "align_corners">(x, , , sizes)
            y = Add(r, skip)
        }"""
    )
    rng = np.random.default_rng(0)
    lower = lowered_by(LowerResize(), onnx.shape_inference.infer_shapes(model))
    for size in ((3, 4), (6, 5), (1, 9)):
        feeds = {
            "x": rng.normal(size=(2, 2, 3, 4)).astype(np.float32),
            "skip": rng.normal(size=(2, 2, *size)).astype(np.float32),
        }
        assert relative_error(run(lower, feeds), run(model, feeds)) <= 2e-6


def test_a_scale_that_rounds_to_the_same_size_copies_as_the_runtime_does() -> None:
    for dynamic in ((), (0, 2, 3)):
        for size in ((3, 4), (3, 5), (7, 4)):
            x = np.random.default_rng(0).normal(size=(1, 2, *size)).astype(np.float32)
            model = resize(x, [1, 1, 1.2, 1.2], mode="linear", dynamic=dynamic)
            assert relative_error(run(lowered_by(LowerResize(), model), {"x": x}), run(model, {"x": x})) <= 2e-6


def test_a_resize_that_changes_nothing_is_the_identity() -> None:
    x = np.ones((1, 2, 3, 4), np.float32)
    lower = lowered_by(LowerResize(), resize(x, [1, 1, 1, 1], mode="cubic"))
    assert [node.op_type for node in lower.graph.node] == ["Identity"]


def test_refuses_to_smooth() -> None:
    model = resize(np.ones((1, 2, 6, 6), np.float32), [1, 1, 0.5, 0.5], opset=18, mode="linear", antialias=1)
    with pytest.raises(UntrainableError, match=r"'node' \(Resize\) smooths while it resizes \(antialias\)"):
        lowered_by(LowerResize(), model)


def test_refuses_an_input_of_unknown_rank() -> None:
    model = resize(np.ones((1, 2, 6, 6), np.float32), [1, 1, 2, 2], mode="linear")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UntrainableError, match=r"'node' \(Resize\) has an input whose rank is not known"):
        lowered_by(LowerResize(), model)


def test_refuses_scales_that_do_not_fit_the_axes() -> None:
    model = resize(np.ones((1, 2, 6, 6), np.float32), [2, 2], mode="linear")
    with pytest.raises(UntrainableError, match=r"'node' \(Resize\) has 2 scales for 4 axes"):
        lowered_by(LowerResize(), model)


def test_refuses_a_node_without_scales_and_sizes() -> None:
    model = node_model("Resize", {"x": np.ones((1, 2, 6, 6), np.float32)}, opset=13, mode="linear")
    with pytest.raises(UntrainableError, match=r"'node' \(Resize\) has neither scales nor sizes"):
        lowered_by(LowerResize(), model)


def test_refuses_a_mode_and_coordinates_that_onnx_does_not_define() -> None:
    x = np.ones((1, 2, 6, 6), np.float32)
    with pytest.raises(UntrainableError, match=r"'node' \(Resize\) has the mode 'sinc'"):
        lowered_by(LowerResize(), resize(x, [1, 1, 2, 2], mode="sinc"))
    with pytest.raises(UntrainableError, match="has the coordinate_transformation_mode 'other'"):
        lowered_by(LowerResize(), resize(x, [1, 1, 2, 2], mode="linear", coordinate_transformation_mode="other"))


def test_upsamples_an_axis_of_unknown_size_of_an_old_model() -> None:
    inputs = {"x": np.random.default_rng(0).normal(size=(1, 2, 3)).astype(np.float32)}
    model = node_model("Upsample", inputs, opset=8, dynamic=[2], mode="linear", scales=[1.0, 1.0, 2.0])
    assert relative_error(run(lowered_by(LowerResize(), model), inputs), run(model, inputs)) < 2e-6


def test_leaves_other_types_alone() -> None:
    assert leaves_alone(LowerResize(), resize(np.ones((1, 2, 6, 6), np.uint8), [1, 1, 2, 2], mode="nearest"))


def test_leaves_nothing_behind_that_is_not_used() -> None:
    x = np.ones((1, 2, 4, 5), np.float32)
    for mode in ("nearest", "linear"):
        lower = lowered_by(LowerResize(), resize(x, [1, 1, 2, 1.5], mode=mode, dynamic=(0, 2, 3)))
        read = {name for node in lower.graph.node for name in node.input}
        made = {name for node in lower.graph.node for name in node.output} - {"y"}
        stored = {tensor.name for tensor in lower.graph.initializer} - {"roi", "scales"}
        assert made | stored <= read
