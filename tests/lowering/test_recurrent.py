"""LSTM and GRU, unrolled."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx_ir.passes.common import ShapeInferencePass

from tests.gradients.checking import check_gradients, model_of, run
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.recurrent import LowerRecurrent

RNG = np.random.default_rng(21)
LENGTH, BATCH, SIZE, HIDDEN = 4, 2, 3, 5


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32) * 0.6


def _case(op_type: str, direction: str, *, bias: bool, start: bool, **attributes: Any) -> tuple[Any, dict[str, Any]]:
    directions, gates = 2 if direction == "bidirectional" else 1, 4 if op_type == "LSTM" else 3
    state = (BATCH, directions, HIDDEN) if attributes.get("layout") else (directions, BATCH, HIDDEN)
    x = (BATCH, LENGTH, SIZE) if attributes.get("layout") else (LENGTH, BATCH, SIZE)
    feeds = {
        "x": _array(*x),
        "w": _array(directions, gates * HIDDEN, SIZE),
        "r": _array(directions, gates * HIDDEN, HIDDEN),
        **({"b": _array(directions, 2 * gates * HIDDEN)} if bias else {}),
        **({"h": _array(*state)} if start else {}),
        **({"c": _array(*state)} if start and op_type == "LSTM" else {}),
    }
    inputs = ["x", "w", "r", "b" if bias else "", "", "h" if start else "", "c" if "c" in feeds else ""]
    outputs = ["y", "y_h", "y_c"] if op_type == "LSTM" else ["y", "y_h"]
    while not inputs[-1]:
        inputs.pop()
    node = helper.make_node(op_type, inputs, outputs, hidden_size=HIDDEN, direction=direction, **attributes)
    return node, feeds


def _lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = ir.from_proto(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(graph)
    assert LowerRecurrent()(graph).modified
    lowered = ir.to_proto(graph)
    assert not {"LSTM", "GRU"} & {node.op_type for node in lowered.graph.node}
    return lowered


CASES = [
    ("LSTM", "forward", {"bias": True, "start": True}),
    ("LSTM", "reverse", {"bias": True, "start": False}),
    ("LSTM", "bidirectional", {"bias": False, "start": True}),
    ("LSTM", "bidirectional", {"bias": True, "start": False}),
    ("GRU", "forward", {"bias": True, "start": True}),
    ("GRU", "forward", {"bias": True, "start": True, "linear_before_reset": 1}),
    ("GRU", "reverse", {"bias": True, "start": False}),
    ("GRU", "bidirectional", {"bias": True, "start": True, "linear_before_reset": 1}),
]


@pytest.mark.parametrize(("op_type", "direction", "options"), CASES, ids=str)
def test_unrolled_nodes_compute_what_the_operator_does(op_type: str, direction: str, options: dict[str, Any]) -> None:
    node, feeds = _case(op_type, direction, **options)
    model = model_of([node], feeds, outputs=node.output)
    for found, expected in zip(run(_lowered(model), feeds), run(model, feeds)):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("op_type", "direction"), [("LSTM", "bidirectional"), ("GRU", "reverse")])
def test_gradients_pass_the_unrolled_nodes(op_type: str, direction: str) -> None:
    node, feeds = _case(op_type, direction, bias=True, start=True)
    lowered = _lowered(model_of([node], feeds, outputs=node.output))
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in lowered.graph.initializer}
    check_gradients(
        lowered.graph.node, feeds, constants, outputs=node.output, kinds=("static",), wanted=["x", "w", "r", "b", "h"]
    )


def test_the_batch_may_be_open() -> None:
    node, feeds = _case("LSTM", "forward", bias=True, start=False)
    model = model_of([node], feeds, outputs=node.output)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "N"
    lowered = _lowered(model)
    for size in (1, 3):
        fed = {**feeds, "x": _array(LENGTH, size, SIZE)}
        np.testing.assert_allclose(run(lowered, fed)[0], run(model, fed)[0], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"clip": 1.0}, "clips"),
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "activations Relu"),
        ({"input_forget": 1}, "couples"),
    ],
    ids=str,
)
def test_what_is_not_unrolled_is_refused_by_name(changed: dict[str, Any], reason: str) -> None:
    node, feeds = _case("LSTM", "forward", bias=True, start=True, **changed)
    node.name = "memory"
    with pytest.raises(UntrainableError, match=f"'memory' .LSTM. .*{reason}"):
        _lowered(model_of([node], feeds, outputs=node.output))


def test_an_open_length_is_refused_with_the_remedy() -> None:
    node, feeds = _case("GRU", "forward", bias=True, start=True)
    model = model_of([node], feeds, outputs=node.output)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "T"
    with pytest.raises(UntrainableError, match="whose length is open; export the model with a fixed length"):
        _lowered(model)
