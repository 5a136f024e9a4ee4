"""If whose condition is computed: gradients pass the branch that is taken."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.gradients.checking import check_gradients, gradient_model, model_of

RNG = np.random.default_rng(31)


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def _graph(nodes: list[onnx.NodeProto], outputs: list[str], **initializers: np.ndarray) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in initializers.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    return helper.make_graph(nodes, "branch", [], made, tensors)


# Whether the sum of x exceeds a threshold, which is known only while the model runs.
CONDITION = [
    helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
    helper.make_node("Greater", ["total", "threshold"], ["c"]),
]


@pytest.mark.parametrize("threshold", [-1e3, 1e3], ids=["then", "else"])
def test_gradient_passes_the_branch_that_is_taken(threshold: float) -> None:
    then = _graph(
        [helper.make_node("Mul", ["h", "v"], ["m"]), helper.make_node("Exp", ["m"], ["r"])],
        ["r"],
    )
    other = _graph([helper.make_node("Sin", ["h"], ["r2"])], ["r2"])
    nodes = [
        *CONDITION,
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("Mul", ["i", "h"], ["y"]),
    ]
    check_gradients(nodes, {"x": _array(2, 3), "v": _array(3)}, {"threshold": np.array(threshold)}, held=["v"])


@pytest.mark.parametrize("threshold", [-1e3, 1e3], ids=["then", "else"])
def test_gradient_of_several_outputs_and_of_a_value_that_a_branch_hands_on(threshold: float) -> None:
    then = _graph(
        [helper.make_node("Mul", ["h", "h"], ["p"]), helper.make_node("Identity", ["h"], ["q"])],
        ["p", "q"],
    )
    other = _graph([helper.make_node("Neg", ["x"], ["p2"]), helper.make_node("Exp", ["h"], ["q2"])], ["p2", "q2"])
    nodes = [
        *CONDITION,
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("If", ["c"], ["y", "z"], then_branch=then, else_branch=other),
    ]
    check_gradients(nodes, {"x": _array(2, 3)}, {"threshold": np.array(threshold)}, outputs=["y", "z"])


@pytest.mark.parametrize("threshold", [-1e3, 1e3], ids=["then", "else"])
def test_gradient_passes_an_if_inside_an_if(threshold: float) -> None:
    inner = helper.make_node(
        "If",
        ["c"],
        ["r"],
        then_branch=_graph([helper.make_node("Mul", ["m", "h"], ["r1"])], ["r1"]),
        else_branch=_graph([helper.make_node("Exp", ["h"], ["r3"])], ["r3"]),
    )
    then = _graph([helper.make_node("Mul", ["h", "two"], ["m"]), inner], ["r"], two=np.array(2.0))
    other = _graph([helper.make_node("Sin", ["h"], ["r2"])], ["r2"])
    nodes = [
        *CONDITION,
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    check_gradients(nodes, {"x": _array(2, 3)}, {"threshold": np.array(threshold)})


@pytest.mark.parametrize("threshold", [-1e3, 1e3], ids=["then", "else"])
def test_gradients_of_filters_that_branches_read(threshold: float) -> None:
    then = _graph([helper.make_node("Conv", ["x", "w"], ["r"], pads=[1, 1, 1, 1])], ["r"])
    other = _graph([helper.make_node("Conv", ["x", "v"], ["r2"], pads=[1, 1, 1, 1])], ["r2"])
    nodes = [*CONDITION, helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    feeds = {"x": _array(2, 2, 4, 5), "w": _array(3, 2, 3, 3), "v": _array(3, 2, 3, 3)}
    check_gradients(nodes, feeds, {"threshold": np.array(threshold)}, wanted=["w", "v"], held=["w", "v"])


def test_gradients_of_two_outputs_that_are_one_value_add_up() -> None:
    # ONNX Runtime gives out one of them only, so the reference runs the gradient.
    then = _graph([helper.make_node("Exp", ["h"], ["p"])], ["p", "p"])
    other = _graph([helper.make_node("Sin", ["h"], ["r"]), helper.make_node("Neg", ["h"], ["s"])], ["r", "s"])
    nodes = [
        *CONDITION,
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("If", ["c"], ["y", "z"], then_branch=then, else_branch=other),
    ]
    x = _array(2, 3).astype(np.float32)
    weights = [_array(2, 3).astype(np.float32) for _ in range(2)]
    model = model_of(nodes, {"x": x}, {"threshold": np.array(-1e3, np.float32)}, outputs=["y", "z"])
    _, found = ReferenceEvaluator(gradient_model(model, ["x"], weights)).run(None, {"x": x})
    h = np.tanh(x.astype(np.float64))
    np.testing.assert_allclose(found, (weights[0] + weights[1]) * np.exp(h) * (1 - h**2), rtol=1e-5)
