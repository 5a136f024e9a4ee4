"""Pairs of QuantizeLinear and DequantizeLinear: forward to the bit, backward by the clipped straight-through rule.

Rounding has no derivative to compare with. What the rule says is the derivative of the function without the rounding: x
between the limits, where they bite after rounding, and constant beyond. So that is the formula for the finite differences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.lowering import gradcheck
from tests.lowering.gradcheck import DYNAMIC, STATIC, check_gradients, gradients
from tests.support.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering import lower
from tgdonnx.lowering.fake_quantize import expand_fake_quantize
from tgdonnx.lowering.quantized import LowerQuantized

SHAPE = (3, 4, 5)
GRIDS = {
    "int8": (np.float32(0.013), np.int8(0)),
    "int8 off centre": (np.float32(0.013), np.int8(-31)),
    "uint8": (np.float32(0.021), np.uint8(128)),
    "uint8 from zero": (np.float32(0.007), np.uint8(0)),
    "int16": (np.float32(0.00007), np.int16(-300)),
    "int8 per channel": (np.array([0.01, 0.03, 0.02, 0.015], np.float32), np.zeros(4, np.int8)),
    "uint8 per channel": (np.array([0.01, 0.03, 0.02, 0.015], np.float32), np.full(4, 127, np.uint8)),
    "uint8 per channel with zero points": (
        np.array([0.01, 0.03, 0.02, 0.015], np.float32),
        np.array([120, 131, 0, 255], np.uint8),
    ),
}


def pair(
    scale: Array, zero_point: Array, *, x: Array, dims: str = STATIC, read_twice: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """x, through a pair, is y; ``read_twice``: plus what another node dequantises of the same integers."""
    model = gradcheck.one_node(
        "QuantizeLinear",
        {"x": x},
        opset=21,
        dims=dims,
        constants={"s": np.asarray(scale), "z": np.asarray(zero_point)},
        outputs=["q"],
        **attributes,
    )
    outputs = ["d", "e"] if read_twice else ["y"]
    for output in outputs:
        node = helper.make_node("DequantizeLinear", ["q", "s", "z"], [output], name=f"back{output}", **attributes)
        model.graph.node.append(node)
    if read_twice:
        model.graph.node.append(helper.make_node("Add", outputs, ["y"]))
    return model


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> Array:
    """The first output; what no runtime knows is written out."""
    graph = ir.from_proto(model)
    expand_fake_quantize(graph)
    return gradcheck.run(ir.to_proto(graph), feeds)


def lowered(model: onnx.ModelProto, *lowerings: Callable[[ir.Model], object]) -> onnx.ModelProto:
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    for lowering in lowerings or (LowerQuantized(),):
        lowering(graph)
    proto = ir.to_proto(graph)
    onnx.checker.check_model(proto)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in proto.graph.node}
    return proto


def limits(scale: Array, zero_point: Array) -> tuple[Array, Array]:
    """Where the least and the greatest integer end, half a step beyond the numbers that they stand for."""
    ends, z = np.iinfo(zero_point.dtype), zero_point.astype(np.float64)
    s = scale.astype(np.float64)
    shape = (-1, 1) if s.ndim else ()
    return ((ends.min - z - 0.5) * s).reshape(shape), ((ends.max - z + 0.5) * s).reshape(shape)


def numbers(scale: Array, zero_point: Array) -> Array:
    """Two thirds inside the limits, the rest beyond them; none within a hundredth of a step of an end."""
    rng = np.random.default_rng(3)
    low, high = limits(np.asarray(scale), np.asarray(zero_point))
    x = low + (high - low) * rng.uniform(-0.25, 1.25, SHAPE)
    step = np.asarray(scale, np.float64).reshape((-1, 1) if np.ndim(scale) else ())
    for end in (low, high):
        x = np.where(np.abs(x - end) < 0.01 * step, x + 0.1 * step, x)
    outside = ((x < low) | (x > high)).mean()
    assert 0.1 < outside < 0.6
    return x.astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
@pytest.mark.parametrize("read_twice", [False, True], ids=["", "read twice"])
def test_rounds_to_the_bit_and_passes_the_gradient_inside_the_limits(grid: str, dims: str, read_twice: bool) -> None:
    scale, zero_point = GRIDS[grid]
    x = numbers(scale, zero_point)
    model = pair(scale, zero_point, x=x, dims=dims, read_twice=read_twice, axis=1)
    lower_model = lowered(model)
    np.testing.assert_array_equal(run(lower_model, {"x": x}), run(model, {"x": x}))
    low, high = limits(np.asarray(scale), np.asarray(zero_point))
    check_gradients(lower_model, {"x": x}, lambda x: (1 + read_twice) * np.clip(x, low, high), tolerance=1e-7)


@pytest.mark.parametrize("grid", GRIDS)
def test_rounds_ties_as_the_runtime_does(grid: str) -> None:
    scale, zero_point = (np.asarray(part) for part in GRIDS[grid])
    halves = np.arange(-600, 600).reshape(3, 100, 4).transpose(0, 2, 1) / 2
    x = (halves * scale.reshape((-1, 1) if scale.ndim else ())).astype(np.float32)
    model = pair(scale, zero_point, x=x, axis=1)
    np.testing.assert_array_equal(run(lowered(model), {"x": x}), run(model, {"x": x}))


def test_the_ends_of_the_grid_pass_their_gradient() -> None:
    # The largest weight of a symmetrically quantised filter stands for 127: it must be able to learn.
    x = np.float32([-129, -128.4, -128, 0, 127, 127.4, 128]) * np.float32(0.25)
    weights = np.arange(1, 8, dtype=np.float32)
    model = lowered(pair(np.float32(0.25), np.int8(0), x=x))
    np.testing.assert_array_equal(gradients(model, {"x": x}, weights)["x"], weights * [0, 1, 1, 1, 1, 1, 0])


def test_a_pair_without_zero_point_is_of_uint8() -> None:
    x = np.float32([-1, 0, 0.6, 300])
    model = pair(np.float32(1), np.uint8(0), x=x)
    for node in model.graph.node:
        del node.input[2]
    np.testing.assert_array_equal(run(lowered(model), {"x": x}), [0, 0, 1, 255])


REFUSED = {
    "blocks": (
        {"axis": 1, "block_size": 2},
        np.full((3, 2, 5), 0.1, np.float32),
        np.zeros((3, 2, 5), np.int8),
        "has a grid in blocks; ask the vendor for a model with INT8 or UINT8",
    ),
    "4 bits": ({}, np.float32(0.1), np.zeros((), ir.DataType.INT4.numpy()), "has a grid of type INT4; ask the vendor"),
    "8-bit floats": (
        {},
        np.float32(0.1),
        np.zeros((), ir.DataType.FLOAT8E4M3FN.numpy()),
        "has a grid of type FLOAT8E4M3FN; ask the vendor",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_grids_are_refused_by_name(case: str) -> None:
    attributes, scale, zero_point, reason = REFUSED[case]
    model = pair(scale, zero_point, x=np.zeros(SHAPE, np.float32), **attributes)
    with pytest.raises(UntrainableError, match=rf"node 'backy' \(DequantizeLinear\) {reason}"):
        lowered(model)


def test_integers_that_another_operator_made_are_refused_by_name() -> None:
    model = pair(*GRIDS["uint8"], x=np.zeros(SHAPE, np.float32))
    model.graph.node[0].output[0] = "first"
    model.graph.node.insert(1, helper.make_node("Identity", ["first"], ["q"]))
    with pytest.raises(UntrainableError, match="gives out integers made by Identity, through which no gradient passes"):
        lowered(model)


@pytest.mark.parametrize(("position", "other"), [(1, np.float32(0.5)), (2, np.uint8(127))])
def test_another_grid_on_the_way_back_is_refused(position: int, other: Array) -> None:
    model = pair(*GRIDS["uint8"], x=np.zeros(SHAPE, np.float32))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(other), "other"))
    model.graph.node[1].input[position] = "other"
    with pytest.raises(UntrainableError, match="has another scale or zero point than the QuantizeLinear in front"):
        lowered(model)


def test_a_scale_that_is_computed_is_refused() -> None:
    model = pair(*GRIDS["uint8"], x=np.zeros(SHAPE, np.float32))
    del model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, []))
    with pytest.raises(UntrainableError, match="has a grid whose scale or zero point is not constant"):
        lowered(model)


def test_lower_takes_the_pairs_on_the_gradient_path_and_leaves_others() -> None:
    x = numbers(*GRIDS["int8"])
    model = pair(*GRIDS["int8"], x=x)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2), "factor"))
    model.graph.node[-1].output[0] = "d"
    model.graph.node.append(helper.make_node("Mul", ["d", "factor"], ["m"]))
    model.graph.node.append(helper.make_node("QuantizeLinear", ["m", "s", "z"], ["mq"]))
    model.graph.node.append(helper.make_node("DequantizeLinear", ["mq", "s", "z"], ["y"]))
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    lower(graph, ["factor"])
    assert [node.op_type for node in graph.graph] == ["QuantizeLinear", "DequantizeLinear", "Mul", "FakeQuantize"]
    np.testing.assert_array_equal(run(ir.to_proto(graph), {"x": x}), run(model, {"x": x}))
