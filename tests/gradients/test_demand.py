"""Only what is wanted of a gradient is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnx_ir.passes.common import ShapeInferencePass

from tests.gradients.checking import check_gradients, run
from tgdonnx.gradients import differentiate

RNG = np.random.default_rng(9)


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def _joined(name: str, rows: Sequence[int], filters: int) -> list[onnx.NodeProto]:
    """Nodes that put a tensor together from its rows ``NAME.rows`` and the others, ``NAME.others``."""
    return [
        helper.make_node("Concat", [f"{name}.rows", f"{name}.others"], [f"{name}.pieces"], axis=0),
        helper.make_node("Gather", [f"{name}.pieces", f"{name}.order"], [name], axis=0),
    ]


def _order(rows: Sequence[int], filters: int) -> np.ndarray:
    return np.argsort([*rows, *(row for row in range(filters) if row not in rows)])


def _output_sizes(model: onnx.ModelProto, feeds: dict[str, np.ndarray], op_type: str) -> list[tuple[int, ...]]:
    """The shapes of what the nodes of an operator give when the model runs."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [node.output[0] for node in model.graph.node if node.op_type == op_type]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    results = run(probe, feeds)
    return [np.shape(value) for value in results[len(results) - len(names) :]]


@pytest.mark.parametrize(
    ("attributes", "x", "w", "rows"),
    [
        ({"pads": [1, 1, 1, 1]}, (2, 3, 4, 5), (6, 3, 3, 3), [1, 4]),
        ({"pads": [1, 1, 1, 1]}, (2, 3, 4, 5), (6, 3, 3, 3), [5, 0, 2, 3]),
        ({"strides": [2, 2]}, (2, 3, 5, 5), (4, 3, 2, 2), [0]),
        ({"group": 2, "pads": [0, 1, 1, 0]}, (2, 4, 4, 4), (6, 2, 2, 2), [1, 3, 4]),
        ({"group": 4}, (2, 4, 4, 4), (4, 1, 3, 3), [1, 2]),
    ],
    ids=str,
)
def test_gradient_of_rows_is_that_of_their_filters_alone(
    attributes: dict[str, object], x: tuple[int, ...], w: tuple[int, ...], rows: list[int]
) -> None:
    nodes = [*_joined("w", rows, w[0]), helper.make_node("Conv", ["x", "w"], ["y"], **attributes)]
    feeds = {"x": _array(*x), "w.rows": _array(len(rows), *w[1:])}
    constants = {"w.others": _array(w[0] - len(rows), *w[1:]), "w.order": _order(rows, w[0])}
    model = check_gradients(nodes, feeds, constants, wanted=["w.rows"], held=["w.rows"])
    assert "ScatterElements" not in {node.op_type for node in model.graph.node}
    given = {name: array.astype(np.float32) for name, array in feeds.items()}
    products = _output_sizes(model, given, "MatMul") or _output_sizes(model, given, "ReduceSum")[2:]
    assert products
    for size in products:
        assert len(rows) in size
        assert w[0] not in size


def test_gradients_of_rows_and_of_columns_of_the_others() -> None:
    """As of a mask per kernel: rows 1 and 4, and in the other rows column 2."""
    others = [0, 2, 3, 5]
    nodes = [
        helper.make_node("Concat", ["w.columns", "w.frozen"], ["w.some"], axis=1),
        helper.make_node("Gather", ["w.some", "w.order of columns"], ["w.others"], axis=1),
        *_joined("w", [1, 4], 6),
        helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    feeds = {"x": _array(2, 3, 4, 5), "w.rows": _array(2, 3, 3, 3), "w.columns": _array(4, 1, 3, 3)}
    constants = {"w.frozen": _array(4, 2, 3, 3), "w.order of columns": _order([2], 3), "w.order": _order([1, 4], 6)}
    wanted = ["w.rows", "w.columns"]
    model = check_gradients(nodes, feeds, constants, wanted=wanted, held=wanted)
    assert len(others) == feeds["w.columns"].shape[0]
    assert "ScatterElements" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("trans_b", [0, 1])
def test_gradient_of_rows_of_a_matrix(trans_b: int) -> None:
    nodes = [*_joined("b", [0, 3], 5), helper.make_node("Gemm", ["a", "b"], ["y"], transB=trans_b)]
    feeds = {"a": _array(2, 4 if trans_b else 5), "b.rows": _array(2, 4)}
    constants = {"b.others": _array(3, 4), "b.order": _order([0, 3], 5)}
    check_gradients(nodes, feeds, constants, wanted=["b.rows"], held=["b.rows"])


def test_gradient_of_rows_that_two_nodes_read_is_the_sum() -> None:
    nodes = [
        *_joined("w", [2], 3),
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    feeds = {"x": _array(2, 3, 4, 4), "w.rows": _array(1, 3, 3, 3)}
    constants = {"w.others": _array(2, 3, 3, 3), "w.order": _order([2], 3)}
    check_gradients(nodes, feeds, constants, wanted=["w.rows"], held=["w.rows"])


def test_gradient_of_some_channels_of_a_joined_input() -> None:
    """A skip connection: the gradient of what the first Conv made is wanted, that of the image is not."""
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["x", "h"], ["j"], axis=1),
        helper.make_node("Conv", ["j", "w"], ["y"], pads=[1, 1, 1, 1]),
    ]
    feeds = {"x": _array(2, 3, 4, 5), "v": _array(2, 3, 3, 3), "w": _array(4, 5, 3, 3)}
    model = check_gradients(nodes, feeds, wanted=["v"], held=["v", "w"])
    given = {name: array.astype(np.float32) for name, array in feeds.items()}
    # Two Convs forward, and one back to the two channels that are wanted.
    assert _output_sizes(model, given, "Conv")[-1] == (2, 2, 4, 5)


def test_what_nobody_wants_is_not_computed() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["y"]),
    ]
    feeds = {"x": _array(2, 3, 4, 5), "v": _array(2, 3, 1, 1), "w": _array(4, 2, 1, 1)}
    model = check_gradients(nodes, feeds, wanted=["w"], held=["v", "w"])
    assert [node.op_type for node in model.graph.node].count("Conv") == 2
    assert "Greater" not in {node.op_type for node in model.graph.node}


def test_gradient_of_what_the_loss_does_not_depend_on_is_zero() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["": 18]> g (float[2,3] x, float[4] z) => (float loss) '
            "{ loss = ReduceSum <keepdims=0> (x) }"
        )
    )
    x, z = model.graph.inputs
    gradients = differentiate(model, model.graph.outputs[0], [x, z])
    model.graph.outputs.extend(gradients)
    (_, by_x, by_z) = run(ir.to_proto(model), {"x": np.ones((2, 3), np.float32), "z": np.ones(4, np.float32)})
    np.testing.assert_array_equal(by_x, np.ones((2, 3)))
    np.testing.assert_array_equal(by_z, np.zeros(4))


def test_gate_multiplies_a_gradient_where_it_passes() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> g (float[2,3] x) => (float loss) '
        "{ h = Mul (x, x)  r = Exp (h)  loss = ReduceSum <keepdims=0> (r) }"
    )
    proto.graph.initializer.extend([numpy_helper.from_array(np.zeros(1, np.float32), "unused")])
    model = ir.from_proto(proto)
    ShapeInferencePass()(model)
    h = model.graph[0].outputs[0]
    gate = np.array([1, 0, 1], np.float32)
    (gradient,) = differentiate(model, model.graph.outputs[0], [model.graph.inputs[0]], gates={h: gate})
    model.graph.outputs.append(gradient)
    x = _array(2, 3).astype(np.float32)
    (_, found) = run(ir.to_proto(model), {"x": x})
    np.testing.assert_allclose(found, 2 * x * np.exp(x * x) * gate, rtol=1e-5)
