"""Operators that put elements elsewhere, take some, or join them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.gradients.checking import check_gradients

RNG = np.random.default_rng(4)


def _array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def _ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("op_type", "constants", "attributes"),
    [
        ("Reshape", {"to": _ints(0, -1)}, {}),
        ("Reshape", {"to": _ints(4, 6)}, {}),
        ("Flatten", {}, {"axis": 2}),
        ("Unsqueeze", {"axes": _ints(0, 2)}, {}),
        ("Transpose", {}, {}),
        ("Transpose", {}, {"perm": [1, 2, 0]}),
        ("Tile", {"repeats": _ints(2, 1, 3)}, {}),
        ("Trilu", {}, {"upper": 0}),
        ("Trilu", {"k": np.array(1, np.int64)}, {}),
    ],
    ids=str,
)
def test_gradient_goes_back_to_where_it_lay(
    op_type: str, constants: dict[str, Any], attributes: dict[str, Any]
) -> None:
    node = helper.make_node(op_type, ["x", *constants], ["y"], **attributes)
    check_gradients([node], {"x": _array(2, 3, 4)}, constants)


@pytest.mark.parametrize("axes", [None, (0, 2)], ids=str)
def test_gradient_of_squeeze(axes: tuple[int, ...] | None) -> None:
    constants = {} if axes is None else {"axes": _ints(*axes)}
    check_gradients([helper.make_node("Squeeze", ["x", *constants], ["y"])], {"x": _array(1, 3, 1)}, constants)


@pytest.mark.parametrize("shape", [(3, 1), (1,), (2, 3, 1), (4,)], ids=str)
def test_gradient_of_expand_sums_the_copies(shape: tuple[int, ...]) -> None:
    constants = {"to": _ints(2, 3, 4)}
    check_gradients([helper.make_node("Expand", ["x", "to"], ["y"])], {"x": _array(*shape)}, constants)


def test_gradient_of_a_reshape_whose_shape_is_computed_while_the_model_runs() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    check_gradients(nodes, {"x": _array(2, 3, 4)}, {"zero": _ints(0), "rest": _ints(-1)})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradient_of_concat_is_cut_apart(axis: int) -> None:
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    for place, size in enumerate((1, 5, 2)):
        shapes[place][axis] = size
    feeds = {name: _array(*shape) for name, shape in zip("abc", shapes)}
    check_gradients([helper.make_node("Concat", list(feeds), ["y"], axis=axis)], feeds)
    check_gradients([helper.make_node("Concat", list(feeds), ["y"], axis=axis)], feeds, wanted=["b"])


def test_gradient_of_a_value_that_is_joined_with_itself() -> None:
    check_gradients(
        [helper.make_node("Concat", ["a", "b", "a"], ["y"], axis=1)], {"a": _array(2, 3), "b": _array(2, 1)}
    )


@pytest.mark.parametrize("outputs", [("p", "q", "r"), ("p", "r"), ("q",)], ids=str)
def test_gradient_of_split_with_outputs_that_nobody_reads(outputs: tuple[str, ...]) -> None:
    node = helper.make_node("Split", ["x", "lengths"], ["p", "q", "r"], axis=1)
    check_gradients([node], {"x": _array(2, 6, 2)}, {"lengths": _ints(1, 3, 2)}, outputs=outputs)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_gradient_of_depth_to_space(mode: str) -> None:
    check_gradients(
        [helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], {"x": _array(2, 12, 2, 3)}
    )


def test_gradient_of_space_to_depth() -> None:
    check_gradients([helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": _array(2, 3, 4, 6)})


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("places", [[1, 0, 2], [2, 0], [1, 1, 0, 1], [-1, 0], [[0, 1], [1, 2]], 1], ids=str)
def test_gradient_of_gather_adds_up(places: Any, axis: int) -> None:
    constants = {"places": np.array(places, np.int64)}
    check_gradients([helper.make_node("Gather", ["x", "places"], ["y"], axis=axis)], {"x": _array(3, 3, 3)}, constants)


def test_gradient_of_gather_at_places_that_are_an_input() -> None:
    feeds = {"x": _array(4, 2), "places": _ints(3, 0, 3)}
    check_gradients([helper.make_node("Gather", ["x", "places"], ["y"])], feeds)


def test_gradient_of_gather_elements_adds_up() -> None:
    feeds = {"x": _array(3, 4), "places": np.array([[0, 1, 1], [2, 2, 0], [3, -1, 3]], np.int64)}
    check_gradients([helper.make_node("GatherElements", ["x", "places"], ["y"], axis=1)], feeds)


def test_gradient_of_gather_nd_adds_up() -> None:
    feeds = {"x": _array(3, 4, 2), "places": np.array([[0, 1], [2, 3], [0, 1]], np.int64)}
    check_gradients([helper.make_node("GatherND", ["x", "places"], ["y"])], feeds)


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_gradient_of_scatter_elements(reduction: str) -> None:
    places = np.array([[1, 0], [0, 3]] if reduction == "none" else [[1, 1], [0, 3]], np.int64)
    feeds = {"x": _array(2, 4), "places": places, "u": _array(2, 2)}
    check_gradients([helper.make_node("ScatterElements", list(feeds), ["y"], axis=1, reduction=reduction)], feeds)


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_gradient_of_scatter_nd(reduction: str) -> None:
    places = np.array([[1, 0], [2, 3]] if reduction == "none" else [[1, 0], [1, 0]], np.int64)
    feeds = {"x": _array(3, 4, 2), "places": places, "u": _array(2, 2)}
    check_gradients([helper.make_node("ScatterND", list(feeds), ["y"], reduction=reduction)], feeds)


@pytest.mark.parametrize("largest", [0, 1])
def test_gradient_of_top_k_goes_to_the_chosen(largest: int) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "places"], axis=1, largest=largest)
    check_gradients([node], {"x": _array(2, 5, 2)}, {"k": _ints(2)})


LAST = 2**63 - 1
SLICES = [
    ((1,), (3,), (0,), (1,)),
    ((0, 1), (2, 4), (0, 2), (1, 1)),
    ((-2,), (LAST,), (2,), (1,)),
    ((1,), (-1,), (1,), (1,)),
    ((0,), (LAST,), (1,), (2,)),
    ((1,), (LAST,), (-1,), (3,)),
    ((-1,), (-(2**63),), (1,), (-1,)),
    ((3,), (0,), (2,), (-2,)),
    ((-9,), (9,), (1,), (1,)),
]


@pytest.mark.parametrize("given", SLICES, ids=str)
def test_gradient_of_slice_is_zero_where_nothing_was_taken(given: tuple[tuple[int, ...], ...]) -> None:
    constants = {name: _ints(*numbers) for name, numbers in zip(("starts", "ends", "axes", "steps"), given)}
    check_gradients([helper.make_node("Slice", ["x", *constants], ["y"])], {"x": _array(4, 5, 6)}, constants)


def test_gradient_of_a_slice_whose_ends_are_computed_while_the_model_runs() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=1, end=2),
        helper.make_node("Sub", ["s", "one"], ["e"]),
        helper.make_node("Slice", ["x", "one", "e", "one"], ["y"]),
    ]
    check_gradients(nodes, {"x": _array(2, 5, 3)}, {"one": _ints(1)})


@pytest.mark.parametrize("pads", [(0, 1, 2, 0, 3, 0), (1, -1, 0, 0, -2, 2)], ids=str)
def test_gradient_of_pad_is_that_of_the_middle(pads: tuple[int, ...]) -> None:
    constants = {"pads": _ints(*pads), "value": np.array(0.5, np.float32)}
    check_gradients([helper.make_node("Pad", ["x", "pads", "value"], ["y"])], {"x": _array(2, 5, 3)}, constants)


def test_gradient_of_pad_along_given_axes() -> None:
    constants = {"pads": _ints(1, 0, 2, 3), "value": np.array(0.0, np.float32), "axes": _ints(2, 0)}
    node = helper.make_node("Pad", ["x", "pads", "value", "axes"], ["y"])
    check_gradients([node], {"x": _array(2, 5, 3)}, constants)


def test_gradient_of_a_pad_that_is_computed_while_the_model_runs() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Concat", ["s", "none"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads"], ["y"]),
    ]
    check_gradients(nodes, {"x": _array(2, 3)}, {"none": _ints(0, 1)})
