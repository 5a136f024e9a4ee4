"""Arithmetic, matrices and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.gradients.checking import check_gradients

RNG = np.random.default_rng(3)


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


BROADCASTS = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((2, 3, 4), (3, 1)),
    ((2, 3, 4), (2, 1, 4)),
    ((3, 1), (2, 3, 4)),
    ((2, 1, 4), (3, 1)),
    ((2, 3, 4), ()),
    ((), (2, 3)),
]


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"])
def test_gradient_of_arithmetic_sums_over_what_was_repeated(op_type: str, shapes: tuple[Any, Any]) -> None:
    a, b = _array(*shapes[0]), _array(*shapes[1])
    check_gradients([helper.make_node(op_type, ["a", "b"], ["y"])], {"a": a, "b": b + np.sign(b) * 0.5})


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum", "Mean"])
def test_gradient_of_operators_with_many_inputs(op_type: str) -> None:
    feeds = {"a": _array(2, 3), "b": _array(3), "c": _array(2, 1)}
    check_gradients([helper.make_node(op_type, list(feeds), ["y"])], feeds)


def test_equal_inputs_share_the_gradient_of_their_maximum() -> None:
    from tests.gradients.checking import gradient_model, model_of, run

    x = np.array([1, 2, 3], np.float32)
    model = model_of([helper.make_node("Max", ["a", "b"], ["y"])], {"a": x, "b": np.array([1, 5, 0], np.float32)})
    feeds = {"a": x, "b": np.array([1, 5, 0], np.float32)}
    (_, a, b) = run(gradient_model(model, ["a", "b"], [np.ones(3, np.float32)]), feeds)
    np.testing.assert_array_equal(a, [0.5, 0, 1])
    np.testing.assert_array_equal(b, [0.5, 1, 0])


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_gradient_of_pow_by_base_and_exponent(shapes: tuple[Any, Any]) -> None:
    base = np.abs(_array(*shapes[0])) + 0.3
    check_gradients([helper.make_node("Pow", ["a", "b"], ["y"])], {"a": base, "b": _array(*shapes[1])})


@pytest.mark.parametrize("exponent", [2.0, 3.0, -1.0, 0.5])
def test_gradient_of_pow_with_a_constant_exponent(exponent: float) -> None:
    base = _array(2, 3) if exponent == int(exponent) else np.abs(_array(2, 3)) + 0.2
    constants = {"b": np.array(exponent, np.float32)}
    check_gradients([helper.make_node("Pow", ["a", "b"], ["y"])], {"a": base}, constants)


def test_gradient_of_a_product_with_itself() -> None:
    check_gradients([helper.make_node("Mul", ["a", "a"], ["y"])], {"a": _array(2, 3)})


def test_gradient_of_a_value_that_several_nodes_read_is_the_sum() -> None:
    nodes = [
        helper.make_node("Sin", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["m"]),
        helper.make_node("Exp", ["s"], ["e"]),
        helper.make_node("Add", ["m", "e"], ["n"]),
        helper.make_node("Sub", ["n", "a"], ["y"]),
    ]
    check_gradients(nodes, {"a": _array(2, 3)})


def test_gradient_of_where_by_both_sides() -> None:
    condition = RNG.random((2, 3, 4)) > 0.4
    feeds = {"c": condition, "a": _array(3, 1), "b": _array(2, 3, 4)}
    check_gradients([helper.make_node("Where", ["c", "a", "b"], ["y"])], feeds)


def test_gradient_of_mod_by_a_constant_is_one() -> None:
    constants = {"m": np.array(0.7, np.float32)}
    x = np.abs(_array(2, 3)) + 0.05
    check_gradients([helper.make_node("Mod", ["x", "m"], ["y"], fmod=1)], {"x": x}, constants)


def test_no_gradient_passes_whole_numbers() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=7),
        helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("Mul", ["x", "f"], ["y"]),
    ]
    check_gradients(nodes, {"x": _array(2, 5) * 4})


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 6, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 6, 3, 4), (6, 4, 5)),
        ((3, 4), (2, 4, 5)),
        ((1, 3, 4), (2, 4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 5)),
        ((4,), (4,)),
    ],
    ids=str,
)
def test_gradient_of_matmul_by_both_factors(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = _array(*shapes[0]), _array(*shapes[1])
    check_gradients([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b})


@pytest.mark.parametrize("c", [None, (3, 5), (5,), (3, 1), (1,), ()], ids=str)
@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gradient_of_gemm_by_all_inputs(trans_a: int, trans_b: int, c: tuple[int, ...] | None) -> None:
    feeds = {"a": _array(*((4, 3) if trans_a else (3, 4))), "b": _array(*((5, 4) if trans_b else (4, 5)))}
    if c is not None:
        feeds["c"] = _array(*c)
    node = helper.make_node("Gemm", list(feeds), ["y"], transA=trans_a, transB=trans_b, alpha=0.7, beta=1.3)
    check_gradients([node], feeds)


REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "LogSum")


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [None, (0,), (1, 2), (-1,), (0, 2)], ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_gradient_of_reductions(name: str, axes: tuple[int, ...] | None, keepdims: int) -> None:
    x = np.abs(_array(2, 3, 4)) + 0.2 if name == "LogSum" else _array(2, 3, 4)
    constants = {} if axes is None else {"axes": np.array(axes, np.int64)}
    node = helper.make_node(f"Reduce{name}", ["x", *constants], ["y"], keepdims=keepdims)
    check_gradients([node], {"x": x}, constants)


@pytest.mark.parametrize("name", REDUCTIONS[1:])  # those of ReduceSum are an input in every opset that trains
def test_gradient_of_reductions_whose_axes_are_attributes(name: str) -> None:
    x = np.abs(_array(2, 3, 4)) + 0.2
    check_gradients([helper.make_node(f"Reduce{name}", ["x"], ["y"], axes=[1], keepdims=0)], {"x": x}, opset=17)


def test_gradient_of_a_product_with_zeros_is_that_of_the_others() -> None:
    x = np.array([[2.0, 0, 3], [0, 4, 0], [1, 5, 2]])
    constants = {"axes": np.array([1], np.int64)}
    check_gradients([helper.make_node("ReduceProd", ["x", "axes"], ["y"])], {"x": x}, constants)


def test_reduction_over_no_axes_passes_the_gradient() -> None:
    constants = {"axes": np.array([], np.int64)}
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], noop_with_empty_axes=1)
    check_gradients([node], {"x": _array(2, 3)}, constants, kinds=("static", "open"))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_gradient_of_cumulative_sums(exclusive: int, reverse: int) -> None:
    constants = {"axis": np.array(1, np.int64)}
    node = helper.make_node("CumSum", ["x", "axis"], ["y"], exclusive=exclusive, reverse=reverse)
    check_gradients([node], {"x": _array(2, 4, 3)}, constants)
