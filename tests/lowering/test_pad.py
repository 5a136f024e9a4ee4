"""Padding in every mode, on any axes, and cropping."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.lowering.gradcheck import DYNAMIC, STATIC, check_forward, check_gradients, lowered_by, one_node
from tests.support.models import Array
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.pad import LowerPad

SINCE = {"wrap": 19}


def padded(x: Array, before: list[int], behind: list[int], mode: str, value: float) -> Array:
    crop = tuple(slice(max(-b, 0), n - max(-a, 0)) for b, a, n in zip(before, behind, x.shape))
    widths = [(max(b, 0), max(a, 0)) for b, a in zip(before, behind)]
    options: dict[str, Any] = {"constant_values": value} if mode == "constant" else {}
    return np.pad(x[crop], widths, mode, **options)  # type: ignore[call-overload]


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(["constant", "reflect", "edge", "wrap"]), st.sampled_from([STATIC, DYNAMIC]))
def test_pads_and_crops_as_the_original(data: st.DataObject, mode: str, dims: str) -> None:
    opset = data.draw(st.integers(SINCE.get(mode, 8), 21))
    shape = data.draw(st.lists(st.integers(3, 5), min_size=1, max_size=4))
    rank = len(shape)
    # What is left after cropping is longer than any pad. Before operator set 11 nothing crops an axis of unknown size.
    least = 0 if dims == DYNAMIC and opset < 11 else -1
    before = data.draw(st.lists(st.integers(least, 2), min_size=rank, max_size=rank))
    behind = [data.draw(st.integers(least if b >= 0 else 0, 2 if b >= 0 else 1)) for b in before]
    before = [min(b, 1) if a < 0 else b for b, a in zip(before, behind)]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    attributes: dict[str, Any] = {"mode": mode} if mode != "constant" or data.draw(st.booleans()) else {}
    value, constants, names = 0.0, {}, ["x", "pads"]
    if opset < 11:
        attributes["pads"] = [*before, *behind]
        names = ["x"]
        if data.draw(st.booleans()):
            attributes["value"] = value = 0.75
    else:
        constants["pads"] = np.array([*before, *behind], np.int64)
        if data.draw(st.booleans()):
            constants["value"] = np.array(value := 0.75, np.float32)
            names.append("value")
        if opset >= 18 and data.draw(st.booleans()):
            axes = data.draw(st.permutations(range(rank)))[: data.draw(st.integers(1, rank))]
            before = [b if axis in axes else 0 for axis, b in enumerate(before)]
            behind = [a if axis in axes else 0 for axis, a in enumerate(behind)]
            constants["pads"] = np.array([*(before[a] for a in axes), *(behind[a] for a in axes)], np.int64)
            constants["axes"] = np.array([a - rank if data.draw(st.booleans()) else a for a in axes])
            names = ["x", "pads", names[2] if len(names) > 2 else "", "axes"]
    model = one_node("Pad", {"x": x}, opset=opset, dims=dims, constants=constants, inputs=names, **attributes)
    lower = lowered_by(model, LowerPad())
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: padded(x, before, behind, mode, value))


def with_computed_pads(mode: str, *, from_shape: bool) -> tuple[Any, Array]:
    """Pads as PyTorch writes them: a reversed list of those of the last axes, among zeros."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    constants = {
        "given": np.array([1, 2, 0, 3]),
        "zeros": np.zeros(4, np.int64),
        "pairs": np.array([-1, 2]),
        "flat": np.array([-1]),
        "start": np.array([-1]),
        "end": np.array([np.iinfo(np.int64).min]),
        "axis": np.array([0]),
        "step": np.array([-1]),
    }
    model = one_node("Pad", {"x": x}, opset=11, constants=constants, inputs=["x", "pads"], mode=mode)
    added = [helper.make_node("Concat", ["given", "zeros"], ["all"], axis=0)]
    if from_shape:
        added = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Sub", ["shape", "shape"], ["none"]),
            helper.make_node("Concat", ["given", "none"], ["all"], axis=0),
        ]
    added += [
        helper.make_node("Reshape", ["all", "pairs"], ["table"]),
        helper.make_node("Slice", ["table", "start", "end", "axis", "step"], ["reversed"]),
        helper.make_node("Transpose", ["reversed"], ["columns"], perm=[1, 0]),
        helper.make_node("Reshape", ["columns", "flat"], ["row"]),
        helper.make_node("Cast", ["row"], ["pads"], to=7),
    ]
    node = model.graph.node.pop()
    model.graph.node.extend([*added, node])
    return model, x


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize("from_shape", [False, True])
def test_pads_that_nodes_compute_from_constants_count_as_known(mode: str, from_shape: bool) -> None:
    model, x = with_computed_pads(mode, from_shape=from_shape)
    graph = ir.from_proto(model)
    LowerPad()(graph)
    lower = ir.to_proto(graph)
    assert "Pad" not in [node.op_type for node in lower.graph.node]
    check_forward(model, lower, {"x": x})


def test_constant_padding_with_pads_as_an_input_is_left_to_the_runtime() -> None:
    x = np.zeros((1, 2, 3), np.float32)
    model = one_node("Pad", {"x": x}, opset=11, constants={"pads": np.ones(6, np.int64)})
    assert not LowerPad()(ir.from_proto(model)).modified


def test_refuses_pads_that_depend_on_the_input() -> None:
    model, _ = with_computed_pads("reflect", from_shape=True)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(UntrainableError, match=r"node 'node' \(Pad\) computes its pads from its input; make its pads"):
        LowerPad()(ir.from_proto(model))


def test_refuses_axes_that_depend_on_the_input() -> None:
    x = np.zeros((1, 2, 3), np.float32)
    model = one_node(
        "Pad",
        {"x": x},
        opset=18,
        constants={"pads": np.ones(2, np.int64)},
        inputs=["x", "pads", "", "axes"],
        mode="edge",
    )
    model.graph.input.append(helper.make_tensor_value_info("axes", 7, [1]))
    with pytest.raises(
        UntrainableError, match=r"node 'node' \(Pad\) computes which axes it pads; make its axes a constant"
    ):
        LowerPad()(ir.from_proto(model))


def test_crops_an_axis_of_unknown_size_of_an_old_model() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 3)).astype(np.float32)
    model = one_node("Pad", {"x": x}, opset=10, dims=DYNAMIC, mode="edge", pads=[0, 0, -1, 0, 0, 1])
    lower = lowered_by(model, LowerPad())
    check_forward(model, lower, {"x": x})
    check_gradients(lower, {"x": x}, lambda x: np.pad(x[:, :, 1:], ((0, 0), (0, 0), (0, 1)), "edge"))
