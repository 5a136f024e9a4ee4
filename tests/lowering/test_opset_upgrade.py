"""Converting old operator sets up: the converted model computes what the original does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnx_ir.passes import common as passes

from tests.lowering.gradcheck import run
from tests.support.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.opset_upgrade import OPSET, UpgradeOpset

F32, I64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def one(
    op_type: str,
    opset: int,
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
    *,
    outputs: Sequence[str] = ("y",),
    dtype: int = F32,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node."""
    constants = constants or {}
    node = helper.make_node(op_type, [*feeds, *constants], outputs, name="old", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info(outputs[0], dtype, None)],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The checked model of opset 17 that the pass makes of one."""
    graph = ir.from_proto(model)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(graph)
    UpgradeOpset()(graph)
    proto = ir.to_proto(graph)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    passes.ShapeInferencePass(check_type=True, strict_mode=True)(graph)
    onnx.checker.check_model(ir.to_proto(graph), full_check=True)
    assert [value.name for value in proto.graph.output] == [value.name for value in model.graph.output]
    return proto


# What ONNX Runtime runs under the old set as well. Name: operator, opsets, constants, attributes.
POOL = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
CASES: dict[str, tuple[str, Sequence[int], Mapping[str, Array], Mapping[str, Any]]] = {
    "Conv": ("Conv", range(7, 13), {"w": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), "b": f32(1, 2, 3, 4)}, {}),
    "ConvTranspose": (
        "ConvTranspose",
        range(7, 13),
        {"w": RNG.normal(size=(3, 2, 3, 3)).astype(np.float32)},
        {"strides": [2, 2], "output_padding": [1, 0]},
    ),
    "MaxPool": ("MaxPool", range(7, 13), {}, POOL),
    "AveragePool": ("AveragePool", range(7, 13), {}, POOL),
    "AveragePool counting pads": ("AveragePool", range(7, 13), {}, {**POOL, "count_include_pad": 1}),
    "BatchNormalization": (
        "BatchNormalization",
        range(7, 13),
        {"s": f32(1, 2, 3), "o": f32(0, 1, 2), "m": f32(0.5, 0, 1), "v": f32(1, 2, 3)},
        {"epsilon": 0.01},
    ),
    "Dropout": ("Dropout", range(7, 12), {}, {"ratio": 0.4}),
    "Clip of one side": ("Clip", range(7, 11), {}, {"max": 0.5}),
    "Clip": ("Clip", range(7, 11), {}, {"min": -0.5, "max": 0.5}),
    "Clip with limits as inputs": ("Clip", [11, 12], {"low": np.float32(-0.5)}, {}),
    "Pad": ("Pad", range(7, 11), {}, {"pads": [0, 0, 1, 0, 0, 1, 0, 2], "value": 0.5}),
    "Pad that crops": ("Pad", range(7, 11), {}, {"pads": [0, 0, -1, 0, 0, 1, 0, -2]}),
    "Pad by reflection": ("Pad", range(7, 11), {}, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}),
    "Slice": ("Slice", range(7, 10), {}, {"axes": [1, 3], "starts": [1, -4], "ends": [2147483647, -1]}),
    "Slice without axes": ("Slice", range(7, 10), {}, {"starts": [0, 1], "ends": [1, 3]}),
    "Squeeze": ("Squeeze", range(7, 13), {}, {"axes": [0]}),
    "Unsqueeze": ("Unsqueeze", range(7, 13), {}, {"axes": [0, 3]}),
    "ReduceSum": ("ReduceSum", range(7, 13), {}, {"axes": [1, 3], "keepdims": 0}),
    "ReduceSum of all": ("ReduceSum", range(7, 13), {}, {}),
    "ReduceMean": ("ReduceMean", range(7, 13), {}, {"axes": [2, 3]}),
    "ReduceMax": ("ReduceMax", range(7, 13), {}, {"axes": [1]}),
    "Softmax of the last axis": ("Softmax", range(7, 13), {}, {"axis": 3}),
    "Softmax of several axes": ("Softmax", range(7, 13), {}, {}),
    "LogSoftmax of several axes": ("LogSoftmax", range(7, 13), {}, {"axis": 2}),
    "Hardmax of several axes": ("Hardmax", range(7, 13), {}, {"axis": 1}),
    "Upsample to the nearest": ("Upsample", [7, 8], {}, {"scales": [1.0, 1.0, 2.0, 2.5], "mode": "nearest"}),
    "Upsample linearly": ("Upsample", [7, 8], {}, {"scales": [1.0, 1.0, 2.0, 2.5], "mode": "linear"}),
    "Upsample 9 to the nearest": ("Upsample", [9], {"s": f32(1, 1, 1.5, 3)}, {"mode": "nearest"}),
    "Upsample 9 linearly": ("Upsample", [9], {"s": f32(1, 1, 1.5, 3)}, {"mode": "linear"}),
    "Upsample that does nothing": ("Upsample", [9], {"s": f32(1, 1, 1, 1)}, {"mode": "nearest"}),
    "Resize 10, larger and smaller": ("Resize", [10], {"s": f32(1, 1, 1.7, 0.6)}, {"mode": "nearest"}),
    "Resize 10, smaller": ("Resize", [10], {"s": f32(1, 1, 0.8, 0.6)}, {"mode": "nearest"}),
    "Resize 10, linear": ("Resize", [10], {"s": f32(1, 1, 1.7, 0.6)}, {"mode": "linear"}),
    "Resize 11, by sizes": ("Resize", [11, 12], {"r": f32(), "s": f32(), "n": i64(2, 3, 7, 9)}, {"mode": "cubic"}),
    "Add": ("Add", range(7, 13), {"b": RNG.normal(size=(3, 1, 5)).astype(np.float32)}, {}),
    "PRelu": ("PRelu", range(7, 13), {"slope": RNG.normal(size=(3, 1, 1)).astype(np.float32)}, {}),
    "Max": ("Max", range(8, 13), {"b": RNG.normal(size=(4, 5)).astype(np.float32)}, {}),
    "Sum": ("Sum", range(8, 13), {"b": RNG.normal(size=(4, 5)).astype(np.float32)}, {}),
    "Flatten": ("Flatten", range(7, 13), {}, {"axis": 2}),
    "Reshape": ("Reshape", range(7, 13), {"shape": i64(0, -1)}, {}),
    "Gather": ("Gather", range(7, 13), {"i": i64(2, 0)}, {"axis": 1}),
    "Tile": ("Tile", range(7, 13), {"n": i64(1, 2, 1, 3)}, {}),
    "DepthToSpace": ("SpaceToDepth", range(7, 13), {}, {"blocksize": 1}),
    "InstanceNormalization": ("InstanceNormalization", range(7, 13), {"s": f32(1, 2, 3), "o": f32(3, 2, 1)}, {}),
    "LRN": ("LRN", range(7, 13), {}, {"size": 3}),
    "Elu": ("Elu", range(7, 13), {}, {"alpha": 0.7}),
    "Scatter": (
        "Scatter",
        [9, 10],
        {"i": np.zeros((1, 1, 1, 2), np.int64), "u": np.ones((1, 1, 1, 2), np.float32)},
        {},
    ),
    "Transpose": ("Transpose", range(7, 13), {}, {"perm": [0, 2, 1, 3]}),
    "GlobalAveragePool": ("GlobalAveragePool", range(7, 13), {}, {}),
    "Expand": ("Expand", range(8, 13), {"shape": i64(2, 3, 4, 5)}, {}),
    "Concat": ("Concat", range(7, 13), {"b": X[:, :1]}, {"axis": 1}),
}


@pytest.mark.parametrize(
    ("op_type", "opset", "constants", "attributes"),
    [(op, opset, given, attributes) for op, opsets, given, attributes in CASES.values() for opset in opsets],
    ids=[f"{name}-{opset}" for name, (_, opsets, _, _) in CASES.items() for opset in opsets],
)
def test_a_converted_operator_computes_the_same_in_the_runtime(
    op_type: str, opset: int, constants: Mapping[str, Array], attributes: Mapping[str, Any]
) -> None:
    x = X[:1] if op_type == "Squeeze" else X
    model = one(op_type, opset, {"x": x}, constants, **attributes)
    np.testing.assert_array_equal(run(raised(model), {"x": x}), run(model, {"x": x}))


# Of these sets the runtime knows little, so what is expected is written out.
C = np.arange(3, dtype=np.float32)
STATISTICS = {"s": f32(1, 2, 3), "o": f32(0, 1, 2), "m": f32(0.5, 0, 1), "v": f32(1, 2, 3)}
NORMALISED = (X - f32(0.5, 0, 1)[:, None, None]) / np.sqrt(f32(1, 2, 3)[:, None, None] + 1e-5) * f32(1, 2, 3)[
    :, None, None
] + f32(0, 1, 2)[:, None, None]
M = RNG.normal(size=(4, 5)).astype(np.float32)
OLD: dict[str, tuple[str, Sequence[int], Mapping[str, Array], Mapping[str, Any], Array]] = {
    "Add along an axis": ("Add", [1, 6], {"b": C}, {"broadcast": 1, "axis": 1}, X + C[:, None, None]),
    "Sub along an axis from behind": ("Sub", [1, 6], {"b": C}, {"broadcast": 1, "axis": -3}, X - C[:, None, None]),
    "Mul along two axes": ("Mul", [1, 6], {"b": X[0, :, :, 0]}, {"broadcast": 1, "axis": 1}, X * X[:1, :, :, :1]),
    "Div by the last axes": ("Div", [1, 6], {"b": M}, {"broadcast": 1}, X / M),
    "Pow of a number": ("Pow", [1, 6], {"b": f32(2)}, {"broadcast": 1}, X**2),
    "Add of equal shapes": ("Add", [1, 6], {"b": X}, {}, X + X),
    "PRelu per channel": ("PRelu", [1, 6], {"slope": C}, {}, np.where(X > 0, X, X * C[:, None, None])),
    "PRelu of one slope": ("PRelu", [1, 6], {"slope": f32(0.3)}, {}, np.where(X > 0, X, X * np.float32(0.3))),
    "BatchNormalization 1": (
        "BatchNormalization",
        [1, 5],
        STATISTICS,
        {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1], "epsilon": 1e-5},
        NORMALISED,
    ),
    "BatchNormalization 6": ("BatchNormalization", [6], STATISTICS, {"is_test": 1, "spatial": 1}, NORMALISED),
    "Dropout": ("Dropout", [1, 6], {}, {"is_test": 1, "ratio": 0.3}, X),
    "Upsample 1": (
        "Upsample",
        [1, 6],
        {},
        {"height_scale": 2.0, "width_scale": 3.0, "mode": "nearest"},
        X.repeat(2, 2).repeat(3, 3),
    ),
    "Pad 1": (
        "Pad",
        [1],
        {},
        {"paddings": [0, 0, 1, 0, 0, 0, 0, 2], "value": 0.5},
        np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=0.5),
    ),
    "Pad 2": (
        "Pad",
        [2, 6],
        {},
        {"pads": [0, 0, 1, 0, 0, 0, 0, 2], "mode": "edge"},
        np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 2)), "edge"),
    ),
    "Reshape 1": ("Reshape", [1, 4], {}, {"shape": [0, -1], "consumed_inputs": [0]}, X.reshape(2, -1)),
    "Reshape 5": ("Reshape", [5, 6], {"shape": i64(0, -1)}, {}, X.reshape(2, -1)),
    "Clip": ("Clip", [1, 6], {}, {"min": -0.5, "max": 0.5}, X.clip(-0.5, 0.5)),
    "Relu": ("Relu", [1, 6], {}, {}, X.clip(0)),
    "Relu that reuses memory": ("Relu", [1], {}, {"consumed_inputs": [0]}, X.clip(0)),
    "Selu 1": ("Selu", [1], {}, {}, np.float32(1.0507) * np.where(X > 0, X, np.float32(1.6732) * np.expm1(X))),
    "Concat 1": ("Concat", [1, 3], {"b": X}, {}, np.concatenate([X, X], 1)),
    "Slice 1": ("Slice", [1, 6], {}, {"axes": [2], "starts": [1], "ends": [3]}, X[:, :, 1:3]),
    "Split 2": ("Split", [2, 6], {}, {"axis": 1, "split": [1, 2]}, X[:, :1]),
    "Max 1": ("Max", [1, 6], {"b": -X}, {}, np.abs(X)),
    "Squeeze 1": ("Unsqueeze", [1, 6], {}, {"axes": [1]}, X[:, None]),
    "ReduceMean 1": ("ReduceMean", [1, 6], {}, {"axes": [2], "keepdims": 0}, X.mean(2)),
}


@pytest.mark.parametrize(
    ("op_type", "opset", "constants", "attributes", "expected"),
    [(op, opset, given, attributes, y) for op, opsets, given, attributes, y in OLD.values() for opset in opsets],
    ids=[f"{name}-{opset}" for name, (_, opsets, *_) in OLD.items() for opset in opsets],
)
def test_an_operator_from_before_opset_7_computes_what_its_definition_says(
    op_type: str, opset: int, constants: Mapping[str, Array], attributes: Mapping[str, Any], expected: Array
) -> None:
    outputs = ["y", "rest"] if op_type == "Split" else ["y"]
    model = one(op_type, opset, {"x": X}, constants, outputs=outputs, **attributes)
    np.testing.assert_allclose(run(raised(model), {"x": X}), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("opset", [1, 6])
def test_gemm_forgets_its_broadcast_flag(opset: int) -> None:
    a, b, c = M, RNG.normal(size=(5, 2)).astype(np.float32), f32(1, -1)
    model = one("Gemm", opset, {"a": a}, {"b": b, "c": c}, broadcast=1)
    np.testing.assert_allclose(run(raised(model), {"a": a}), a @ b + c, rtol=2e-6, atol=1e-6)


def test_a_cast_by_name() -> None:
    model = one("Cast", 5, {"x": np.array([1.5, -2.5])}, to="FLOAT")
    np.testing.assert_array_equal(run(raised(model), {"x": np.array([1.5, -2.5])}), f32(1.5, -2.5))


def test_comparisons_align_their_operands_too() -> None:
    model = one("Greater", 1, {"x": X}, {"b": C}, dtype=BOOL, broadcast=1, axis=1)
    np.testing.assert_array_equal(run(raised(model), {"x": X}), np.greater(X, C[:, None, None]))


@pytest.mark.parametrize(("op_type", "opset", "mode"), [("Upsample", 9, "nearest"), ("Resize", 10, "linear")])
def test_scales_that_are_computed(op_type: str, opset: int, mode: str) -> None:
    feeds = {"x": X, "s": f32(1, 1, 1.7, 2.6)}
    model = one(op_type, opset, feeds, mode=mode)
    np.testing.assert_array_equal(run(raised(model), feeds), run(model, feeds))


@pytest.mark.parametrize("scales", [(1, 1, 1.2, 0.5), (1, 1, 1.2, 0.9), (1, 1, 2, 0.9)])
def test_axes_that_grow_and_shrink_at_once_are_exact_or_refused(scales: tuple[float, ...]) -> None:
    # A runtime copies what keeps its shape: 4 * 1.2 is 4, so that growing alone would do nothing.
    model = one("Resize", 10, {"x": X}, {"s": f32(*scales)}, mode="nearest")
    if scales[2] < 1.25:
        with pytest.raises(UntrainableError, match="grows on some axes and shrinks on others"):
            raised(model)
    else:
        np.testing.assert_array_equal(run(raised(model), {"x": X}), run(model, {"x": X}))


REFUSED: dict[str, tuple[str, int, Mapping[str, Array], Mapping[str, Any], str]] = {
    "statistics per pixel": ("BatchNormalization", 7, STATISTICS, {"spatial": 0}, "statistics per pixel"),
    "a norm in training form": ("BatchNormalization", 6, STATISTICS, {"is_test": 0}, "training form"),
    "a Dropout in training form": ("Dropout", 6, {}, {}, "training form"),
    "an operator that was given up": ("ImageScaler", 1, {}, {"scale": 2.0}, "cannot be converted from opset 1 to 17"),
    "a Tile along one axis": ("Tile", 1, {"n": f32(2), "axis": f32(1)}, {}, "cannot be converted from opset 1 to 17"),
    "a mode of Upsample that is none": (
        "Upsample",
        9,
        {"s": f32(1, 1, 2, 2)},
        {"mode": "sharp"},
        "has the mode 'sharp'",
    ),
}


@pytest.mark.parametrize(("op_type", "opset", "constants", "attributes", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_refused_by_name(
    op_type: str, opset: int, constants: Mapping[str, Array], attributes: Mapping[str, Any], reason: str
) -> None:
    model = ir.from_proto(one(op_type, opset, {"x": X}, constants, **attributes))
    with pytest.raises(UntrainableError, match=rf"node 'old' \({op_type}\) .*{reason}") as caught:
        UpgradeOpset()(model)
    assert "; " in str(caught.value)
    assert "Assertion" not in str(caught.value)


def test_newer_models_are_left_alone() -> None:
    assert not UpgradeOpset()(ir.from_proto(one("Relu", 17, {"x": X}))).modified


def test_branches_are_converted_too() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 9]> g (bool c, float[2, 3] x) => (float[2, 3] y) {
            y = If(c) <then_branch = a () => (float[2, 3] p) { p = Clip<max = 0.5>(x) },
                       else_branch = b () => (float[2, 3] q) { q = Softmax<axis = 0>(x) }>
        }"""
    )
    x = X[0, 0, :2, :3]
    for c in (True, False):
        feeds = {"c": np.array(c), "x": x}
        np.testing.assert_array_equal(run(raised(model), feeds), run(model, feeds))


def test_a_resize_to_the_nearest_that_computes_its_scales_is_refused() -> None:
    model = one("Resize", 10, {"x": X, "s": f32(1, 1, 2, 2)}, mode="nearest")
    with pytest.raises(UntrainableError, match=r"node 'old' \(Resize\) computes its scales; export .*opset 11"):
        raised(model)
