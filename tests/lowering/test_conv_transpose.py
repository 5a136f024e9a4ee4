"""ConvTranspose lowered to a Conv of all phases: the same function, and the gradient of its input, weight and bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

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
from tgdonnx.lowering.conv_transpose import LowerConvTranspose


def oracle(inputs: dict[str, Array], begin: list[int], lengths: list[int], attributes: dict[str, Any]) -> Array:
    """Scatters every pixel of every input map, in float64; the output begins at ``begin`` of the uncut one."""
    x, w = inputs["x"].astype(np.float64), inputs["w"].astype(np.float64)
    group, out = attributes["group"], w.shape[1]
    y = np.zeros((x.shape[0], group * out, *lengths))
    for place in np.ndindex(*x.shape[2:]):
        for tap in np.ndindex(*w.shape[2:]):
            steps = zip(place, attributes["strides"], tap, attributes["dilations"], begin)
            target = tuple(i * s + j * d - b for i, s, j, d, b in steps)
            if all(0 <= t < size for t, size in zip(target, lengths)):
                pixel = x[(slice(None), slice(None), *place)].reshape(x.shape[0], group, -1)
                kernel = w[(slice(None), slice(None), *tap)].reshape(group, -1, out)
                y[(slice(None), slice(None), *target)] += np.einsum("ngc,gcm->ngm", pixel, kernel).reshape(
                    x.shape[0], -1
                )
    if "b" in inputs:
        y += inputs["b"].reshape(1, -1, *[1] * (x.ndim - 2))
    return y


@st.composite
def nodes(draw: st.DrawFn) -> tuple[onnx.ModelProto, dict[str, Array], dict[str, Any]]:
    """A ConvTranspose, its inputs, and its attributes."""
    rank, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    in_, out = draw(st.integers(1, 2)), draw(st.integers(1, 3))

    def per_axis(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, strides, sizes, dilations = per_axis(1, 5), per_axis(1, 4), per_axis(1, 4), per_axis(1, 2)
    added = [draw(st.integers(0, stride - 1)) for stride in strides]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group, "output_padding": added}
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel)]
    full = [s * (n - 1) + r + a for s, n, r, a in zip(strides, sizes, reach, added)]
    way = draw(st.sampled_from(["pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "shape", "shape", "none"]))
    if way == "pads":
        attributes["pads"] = [draw(st.integers(0, min(4, r))) for r in reach * 2]
        assume(all(n > b + e for n, b, e in zip(full, attributes["pads"][:rank], attributes["pads"][rank:])))
    elif way == "shape":
        more = 0 if rank == 2 else 2  # beyond the full size the runtime's 2-D kernel is wrong
        attributes["output_shape"] = [draw(st.integers(max(1, n - 3), n + more)) for n in full]
        attributes["auto_pad"] = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]))
    elif way != "none":
        attributes["auto_pad"] = way
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    inputs = {
        "x": rng.normal(size=(draw(st.integers(1, 3)), group * in_, *sizes)).astype(np.float32),
        "w": rng.normal(size=(group * in_, out, *kernel)).astype(np.float32),
    }
    if draw(st.booleans()):
        inputs["b"] = rng.normal(size=group * out).astype(np.float32)
    space = range(2, 2 + rank)
    dynamic = [] if way == "shape" else draw(st.sampled_from([[], [0], [0, *space], [*space][:1]]))
    opset = draw(st.integers(8, 21))
    return node_model("ConvTranspose", inputs, opset=opset, dynamic=dynamic, **attributes), inputs, attributes


@pytest.mark.training  # newer runtimes refuse an output_shape that their own definition of pads does not give
@settings(deadline=None, max_examples=300)
@given(nodes())
def test_computes_what_the_original_computes(sample: tuple[onnx.ModelProto, dict[str, Array], dict[str, Any]]) -> None:
    model, inputs, _ = sample
    lower = lowered_by(LowerConvTranspose(), model)
    assert relative_error(run(lower, inputs), run(model, inputs)) <= 2e-6
    assert "ConvTranspose" not in [node.op_type for node in lower.graph.node]
    assert [value.name for value in lower.graph.output] == ["y"]


@pytest.mark.training  # as above
@settings(deadline=None, max_examples=60)
@given(nodes(), st.integers(0, 99))
def test_has_the_gradient_of_the_original(
    sample: tuple[onnx.ModelProto, dict[str, Array], dict[str, Any]], seed: int
) -> None:
    model, inputs, _ = sample
    assume(sum(array.size for array in inputs.values()) < 300)
    target = np.random.default_rng(seed).normal(size=run(model, inputs).shape).astype(np.float32)
    found = gradients(lowered_by(LowerConvTranspose(), model), inputs, target, inputs)
    for name in inputs:
        expected = linear_gradient(model, inputs, target, name)
        assert np.abs(found[name] - expected).max() <= 2e-5 * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize("size", [(2,), (3, 2), (2, 3, 2)])
@pytest.mark.parametrize(("added", "more"), [(3, 0), (0, 5), (4, 2)])
def test_pads_with_the_bias_what_lies_beyond_the_last_tap(size: tuple[int, ...], added: int, more: int) -> None:
    # Here the runtime's own 2-D kernel reads beyond its columns, so an oracle of ours has the word.
    rank = len(size)
    rng = np.random.default_rng(rank)
    inputs = {
        "x": rng.normal(size=(2, 4, *size)).astype(np.float32),
        "w": rng.normal(size=(4, 3, *[2] * rank)).astype(np.float32),
        "b": rng.normal(size=6).astype(np.float32),
    }
    attributes: dict[str, Any] = {
        "strides": [2] * rank,
        "dilations": [5] * rank,
        "group": 2,
        "output_padding": [added] * rank,
    }
    lengths = [2 * (n - 1) + 6 + added + more for n in size]
    if more:
        attributes["output_shape"] = lengths
    model = node_model("ConvTranspose", inputs, opset=17, **attributes)
    found = run(lowered_by(LowerConvTranspose(), model), inputs)
    assert relative_error(found, oracle(inputs, [0] * rank, lengths, attributes)) <= 2e-6


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "added", "taps", "cut"),
    [
        (2, 2, [0, 0, 0, 0], 0, 1, False),
        (3, 2, [1, 1, 1, 1], 1, 2, False),
        (5, 2, [2, 2, 2, 2], 1, 3, False),
        (4, 2, [1, 1, 1, 1], 0, 2, True),
        (4, 4, [0, 0, 0, 0], 0, 1, False),
        (3, 1, [1, 1, 1, 1], 0, 3, False),
    ],
)
def test_makes_no_product_with_an_inserted_zero_where_real_models_are(
    kernel: int, stride: int, pads: list[int], added: int, taps: int, cut: bool
) -> None:
    inputs = {"x": np.ones((1, 3, 5, 6), np.float32), "w": np.ones((3, 2, kernel, kernel), np.float32)}
    model = node_model(
        "ConvTranspose",
        inputs,
        opset=17,
        strides=[stride] * 2,
        pads=pads,
        output_padding=[added] * 2,
        dynamic=[0, 2, 3],
    )
    lower = lowered_by(LowerConvTranspose(), model)
    assert relative_error(run(lower, inputs), run(model, inputs)) <= 2e-6
    conv = next(node for node in lower.graph.node if node.op_type == "Conv")
    assert helper.get_node_attr_value(conv, "kernel_shape") == [taps, taps]
    assert ("Slice" in [node.op_type for node in lower.graph.node]) == cut


def test_keeps_the_weight_of_the_vendor_as_the_parameter() -> None:
    inputs = {"x": np.ones((1, 2, 3), np.float32), "w": np.ones((2, 3, 3), np.float32), "b": np.ones(3, np.float32)}
    model = node_model("ConvTranspose", inputs, opset=17, constants=["w", "b"], strides=[2])
    lower = lowered_by(LowerConvTranspose(), model)
    kept = {tensor.name: tensor for tensor in lower.graph.initializer if not tensor.name.startswith("tgdonnx::")}
    assert set(kept) == {"w", "b"}
    assert kept["w"] == model.graph.initializer[0]


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [3, 2], "auto_pad": "SAME_UPPER", "output_padding": [1, 1]},
        {"strides": [3, 4], "auto_pad": "SAME_LOWER"},
    ],
)
@pytest.mark.parametrize("dynamic", [[], [0]])
def test_declares_the_shape_that_it_gives_though_onnx_may_infer_another(
    attributes: dict[str, Any], dynamic: list[int]
) -> None:
    inputs = {"x": np.ones((2, 2, 3, 1), np.float32), "w": np.ones((2, 3, 2, 3), np.float32)}
    model = node_model("ConvTranspose", inputs, opset=17, dynamic=dynamic, **attributes)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    lower = lowered_by(LowerConvTranspose(), model)
    declared = [dim.dim_value or dim.dim_param for dim in lower.graph.output[0].type.tensor_type.shape.dim]
    actual = list(run(lower, inputs).shape)
    assert declared == (["d0", *actual[1:]] if dynamic else actual)


def test_two_that_share_a_weight_do_not_meet() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 2, W] x, float[2, 3, 4] w, float[3, 2, 1] v) => (float[N, 3, U] y) {
            t = ConvTranspose<strides = [2]>(x, w)
            c = Conv(t, v)
            u = ConvTranspose<strides = [3]>(c, w)
            y = Relu(u)
        }"""
    )
    del model.graph.input[2]
    rng = np.random.default_rng(0)
    v = rng.normal(size=(2, 3, 1)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(v, "v"))
    feeds = {"x": rng.normal(size=(2, 2, 5)).astype(np.float32), "w": rng.normal(size=(2, 3, 4)).astype(np.float32)}
    model = onnx.shape_inference.infer_shapes(model)
    lower = lowered_by(LowerConvTranspose(), model)
    assert relative_error(run(lower, feeds), run(model, feeds)) <= 2e-6


def test_refuses_an_output_shape_for_an_image_of_unknown_size() -> None:
    inputs = {"x": np.ones((1, 2, 3), np.float32), "w": np.ones((2, 3, 3), np.float32)}
    model = node_model("ConvTranspose", inputs, opset=17, dynamic=[2], strides=[2], output_shape=[6])
    with pytest.raises(UntrainableError, match=r"'node' \(ConvTranspose\) has an output_shape.*without output_shape"):
        lowered_by(LowerConvTranspose(), model)


def test_refuses_a_weight_of_unknown_shape() -> None:
    inputs = {"w": np.ones((2, 3, 3), np.float32), "x": np.ones((1, 2, 3), np.float32)}
    model = node_model("ConvTranspose", inputs, opset=17, dynamic=[2])
    model.graph.node[0].input[:] = ["x", "w"]
    with pytest.raises(UntrainableError, match=r"'node' \(ConvTranspose\) has a weight whose shape is not known"):
        lowered_by(LowerConvTranspose(), model)


def test_an_input_of_unknown_rank_has_that_of_the_weight() -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.normal(size=(1, 2, 3, 4)).astype(np.float32),
        "w": rng.normal(size=(2, 3, 3, 2)).astype(np.float32),
    }
    model = node_model("ConvTranspose", inputs, opset=17, strides=[2, 3])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    lower = lowered_by(LowerConvTranspose(), model, check=False)
    assert relative_error(run(lower, inputs), run(model, inputs)) <= 2e-6


def test_refuses_an_input_of_another_rank_than_the_weight() -> None:
    inputs = {"x": np.ones((1, 2, 3), np.float32), "w": np.ones((2, 3, 3, 3), np.float32)}
    model = node_model("ConvTranspose", inputs, opset=17)
    with pytest.raises(
        UntrainableError, match=r"'node' \(ConvTranspose\) has an input of rank 3, but a weight of rank 4"
    ):
        lowered_by(LowerConvTranspose(), model)


def test_leaves_other_domains_and_other_types_alone() -> None:
    inputs = {"x": np.ones((1, 2, 3), np.float64), "w": np.ones((2, 3, 3), np.float64)}
    assert leaves_alone(LowerConvTranspose(), node_model("ConvTranspose", inputs, opset=17))
    inputs = {"x": np.ones((1, 2, 3), np.float32), "w": np.ones((2, 3, 3), np.float32)}
    model = node_model("ConvTranspose", inputs, opset=17, domain="elsewhere")
    assert leaves_alone(LowerConvTranspose(), model)
