"""Normalisations as reductions and arithmetic, with their scales and biases as the parameters."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.lowering.gradcheck import (
    DYNAMIC,
    STATIC,
    check_forward,
    check_gradients,
    gradients,
    lowered_by,
    one_node,
    run,
)
from tests.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.instance_norm import LowerInstanceNormalization
from tgdonnx.lowering.layer_norm import LowerLayerNormalization
from tgdonnx.lowering.lp_norm import LowerLpNormalization
from tgdonnx.lowering.lrn import LowerLRN
from tgdonnx.lowering.mean_variance_norm import LowerMeanVarianceNormalization

PASSES = (
    LowerInstanceNormalization(),
    LowerLayerNormalization(),
    LowerMeanVarianceNormalization(),
    LowerLpNormalization(),
    LowerLRN(),
)
# Few elements that happen to be alike leave nothing but rounding, in the original too.
spaces = st.one_of(
    st.tuples(st.integers(6, 8)), st.tuples(*[st.integers(3, 4)] * 2), st.tuples(*[st.integers(2, 3)] * 3)
)
dims = st.sampled_from([STATIC, DYNAMIC])
seeds = st.integers(0, 999)


def standardised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    deviation = np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return (x - x.mean(axes, keepdims=True)) / deviation


def per_channel(values: Array, rank: int) -> Array:
    return values.reshape(-1, *(1,) * (rank - 2))


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(0.3, 1, shape).astype(np.float32)


@pytest.mark.training
@settings(deadline=None, max_examples=50)
@given(st.data(), dims, seeds)
def test_instance_normalization(data: st.DataObject, dims: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = data.draw(spaces)
    channels = data.draw(st.integers(1, 3))
    feeds = {
        "x": normal(rng, data.draw(st.integers(1, 2)), channels, *space),
        "scale": normal(rng, channels),
        "bias": normal(rng, channels),
    }
    attributes = data.draw(st.sampled_from([{}, {"epsilon": 0.1}, {"epsilon": 1e-3}]))
    model = one_node(
        "InstanceNormalization",
        feeds,
        opset=data.draw(st.integers(8, 21)),
        dims=dims,
        parameters=["scale", "bias"],
        **attributes,
    )
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, feeds)

    def formula(x: Array, scale: Array, bias: Array) -> Array:
        y = standardised(x, tuple(range(2, x.ndim)), attributes.get("epsilon", 1e-5))
        return y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)

    check_gradients(lower, feeds, formula)


@pytest.mark.training
@settings(deadline=None, max_examples=50)
@given(st.data(), dims, seeds)
def test_group_normalization_with_a_scale_per_group_and_from_21_on_per_channel(
    data: st.DataObject, dims: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    opset = data.draw(st.integers(18, 21))
    groups, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    space = data.draw(spaces)
    scales = groups * size if opset == 21 else groups
    feeds = {
        "x": normal(rng, data.draw(st.integers(1, 2)), groups * size, *space),
        "scale": normal(rng, scales),
        "bias": normal(rng, scales),
    }
    attributes = data.draw(st.sampled_from([{}, {"epsilon": 0.1}]))
    model = one_node(
        "GroupNormalization",
        feeds,
        opset=opset,
        dims=dims,
        parameters=["scale", "bias"],
        num_groups=groups,
        **attributes,
    )
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, feeds)

    def formula(x: Array, scale: Array, bias: Array) -> Array:
        grouped = x.reshape(len(x), groups, -1)
        y = standardised(grouped, (2,), attributes.get("epsilon", 1e-5)).reshape(x.shape)
        scale, bias = (np.repeat(values, groups * size // scales) for values in (scale, bias))
        return y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)

    check_gradients(lower, feeds, formula)


@pytest.mark.training
@settings(deadline=None, max_examples=50)
@given(st.data(), dims, seeds, st.booleans())
def test_layer_normalization_over_any_axes_with_and_without_bias(
    data: st.DataObject, dims: str, seed: int, biased: bool
) -> None:
    rng = np.random.default_rng(seed)
    shape = [*data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)), data.draw(st.integers(5, 7))]
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    feeds = {"x": normal(rng, *shape), "scale": normal(rng, *shape[axis:])}
    if biased:
        feeds["bias"] = normal(rng, *shape[axis:])
    attributes = data.draw(st.sampled_from([{}, {"epsilon": 0.1}, {"stash_type": 1}]))
    model = one_node(
        "LayerNormalization",
        feeds,
        opset=data.draw(st.integers(17, 21)),
        dims=dims,
        parameters=["scale", "bias"],
        axis=axis,
        **attributes,
    )
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, feeds)

    def formula(x: Array, scale: Array, bias: Array | float = 0.0) -> Array:
        axes = tuple(range(axis % x.ndim, x.ndim))
        return standardised(x, axes, attributes.get("epsilon", 1e-5)) * scale + bias

    check_gradients(lower, feeds, formula)


@pytest.mark.training
@settings(deadline=None, max_examples=50)
@given(st.data(), dims, seeds)
def test_mean_variance_normalization_over_any_axes(data: st.DataObject, dims: str, seed: int) -> None:
    axes = data.draw(st.sampled_from([None, [0, 2, 3], [2, 3], [0, 1, 2, 3], [1], [3, 2]]))
    x = normal(np.random.default_rng(seed), *data.draw(st.tuples(st.integers(1, 2), *[st.integers(4, 5)] * 3)))
    model = one_node(
        "MeanVarianceNormalization",
        {"x": x},
        opset=data.draw(st.integers(9, 21)),
        dims=dims,
        **({} if axes is None else {"axes": axes}),
    )
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: standardised(x, tuple(axes or (0, 2, 3)), 1e-18))


@pytest.mark.training
@settings(deadline=None, max_examples=50)
@given(st.data(), dims, seeds)
def test_lp_normalization(data: st.DataObject, dims: str, seed: int) -> None:
    shape = data.draw(st.lists(st.integers(3, 5), min_size=1, max_size=3))
    attributes = {
        **data.draw(st.sampled_from([{}, {"p": 1}, {"p": 2}])),
        **data.draw(st.sampled_from([{}, {"axis": data.draw(st.integers(-len(shape), len(shape) - 1))}])),
    }
    x = normal(np.random.default_rng(seed), *shape)
    model = one_node("LpNormalization", {"x": x}, opset=data.draw(st.integers(8, 21)), dims=dims, **attributes)
    lower = lowered_by(model, *PASSES)
    check_forward(model, lower, {"x": x})

    def formula(x: Array) -> Array:
        return x / np.linalg.norm(x, attributes.get("p", 2), attributes.get("axis", -1), keepdims=True)

    check_gradients(lower, {"x": x}, formula)


@pytest.mark.training
@settings(deadline=None, max_examples=50)
@given(st.data(), dims, seeds)
def test_lrn_of_odd_and_even_size(data: st.DataObject, dims: str, seed: int) -> None:
    size = data.draw(st.integers(1, 6))
    x = 2 * normal(np.random.default_rng(seed), 2, data.draw(st.integers(1, 5)), 2, 3)
    attributes = {
        name: float(np.float32(data.draw(st.floats(*limits))))
        for name, limits in {"alpha": (0.01, 2), "beta": (0.2, 1.5), "bias": (0.5, 2)}.items()
        if data.draw(st.booleans())
    }
    model = one_node("LRN", {"x": x}, opset=data.draw(st.integers(8, 21)), dims=dims, size=size, **attributes)
    lower = lowered_by(model, *PASSES)

    def formula(x: Array) -> Array:
        before, behind = (size - 1) // 2, -(-(size - 1) // 2)
        total = np.stack([(x[:, max(0, c - before) : c + behind + 1] ** 2).sum(1) for c in range(x.shape[1])], 1)
        base = attributes.get("bias", 1.0) + attributes.get("alpha", 1e-4) / size * total
        return x / base ** attributes.get("beta", 0.75)

    if size % 2:
        check_forward(model, lower, {"x": x})
    else:  # ONNX Runtime refuses to run the original
        expected = formula(x.astype(np.float64))
        assert np.abs(run(lower, {"x": x}) - expected).max() <= 2e-6 * np.abs(expected).max()
    check_gradients(lower, {"x": x}, formula)


@pytest.mark.parametrize("rank", [3, 5])
def test_lrn_of_other_ranks_sums_across_channels_too(rank: int) -> None:
    """ONNX Runtime runs LRN of images only."""
    x = normal(np.random.default_rng(0), 2, 4, *(2, 3, 2)[: rank - 2])
    lower = lowered_by(one_node("LRN", {"x": x}, opset=13, size=3, alpha=0.5), *PASSES)
    padded = np.pad(x.astype(np.float64) ** 2, [(0, 0), (1, 1), *[(0, 0)] * (rank - 2)])
    total = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    assert np.allclose(run(lower, {"x": x}), x / (1 + 0.5 / 3 * total) ** 0.75, rtol=1e-6, atol=0)


@pytest.mark.training
@pytest.mark.parametrize("order", [1, 2])
def test_the_norm_of_zeros_gives_zeros_and_a_finite_gradient(order: int) -> None:
    x = np.zeros((2, 3), np.float32)
    lower = lowered_by(one_node("LpNormalization", {"x": x}, opset=13, p=order), *PASSES)
    assert not run(lower, {"x": x}).any()
    assert np.isfinite(gradients(lower, {"x": x}, np.ones_like(x))["x"]).all()


@pytest.mark.training
def test_constant_maps_have_a_finite_gradient() -> None:
    x = np.full((2, 3, 2, 2), 0.7, np.float32)
    for op_type in ("MeanVarianceNormalization", "InstanceNormalization"):
        constants = {} if op_type[0] == "M" else {"scale": np.ones(3, np.float32), "bias": np.ones(3, np.float32)}
        lower = lowered_by(one_node(op_type, {"x": x}, opset=13, constants=constants), *PASSES)
        assert np.isfinite(gradients(lower, {"x": x}, np.ones_like(x))["x"]).all()


def test_mean_and_deviation_of_layer_normalization_stay_outputs() -> None:
    x = normal(np.random.default_rng(0), 2, 5)
    feeds = {"x": x, "scale": x[0]}
    model = one_node("LayerNormalization", feeds, opset=17, outputs=["y", "", "deviation"], parameters=["scale"])
    model.graph.output.append(helper.make_tensor_value_info("deviation", 1, None))
    lower = lowered_by(model, *PASSES)
    del lower.graph.output[0], model.graph.output[0]
    np.testing.assert_allclose(run(lower, feeds), run(model, feeds), rtol=1e-6)


def test_a_complete_layer_normalization_is_left_alone() -> None:
    x = np.zeros((2, 5), np.float32)
    feeds = {"x": x, "scale": x[0], "bias": x[1]}
    model = one_node("LayerNormalization", feeds, opset=17, outputs=["y", "mean", "deviation"])
    assert not LowerLayerNormalization()(ir.from_proto(model)).modified


def test_refuses_a_scale_per_channel_before_opset_21() -> None:
    x = np.zeros((1, 4, 2), np.float32)
    model = one_node("GroupNormalization", {"x": x, "scale": x[0, :, 0], "bias": x[0, :, 0]}, opset=18, num_groups=2)
    with pytest.raises(UntrainableError, match=r"'node' \(GroupNormalization\) has 2 groups but 4 scales.*opset 21"):
        LowerInstanceNormalization()(ir.from_proto(model))


def test_refuses_a_scale_of_unknown_size() -> None:
    x = np.zeros((1, 4, 2), np.float32)
    model = one_node("InstanceNormalization", {"x": x, "scale": x[0, :, 0], "bias": x[0, :, 0]}, opset=18, dims=DYNAMIC)
    with pytest.raises(UntrainableError, match=r"'node' \(InstanceNormalization\) has a scale of unknown size"):
        lowered_by(model, *PASSES)


def test_refuses_lrn_over_an_unknown_number_of_channels() -> None:
    model = one_node("LRN", {"x": np.zeros((1, 4, 2, 2), np.float32)}, opset=18, size=3)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "C"
    with pytest.raises(UntrainableError, match=r"'node' \(LRN\) has an input of shape .*channels must be known"):
        lowered_by(model, *PASSES)


def test_refuses_layer_normalization_in_another_type() -> None:
    x = np.zeros((2, 5), np.float32)
    model = one_node("LayerNormalization", {"x": x, "scale": x[0]}, opset=17, stash_type=10)
    with pytest.raises(UntrainableError, match=r"'node' \(LayerNormalization\) computes in another type than float32"):
        lowered_by(model, *PASSES)
