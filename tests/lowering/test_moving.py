"""Operators that move elements, and that the runtime differentiates as they are; and those of which it does so wrongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tests.lowering.gradcheck import DYNAMIC, STATIC, check_gradients, gradients, one_node
from tests.models import Array
from tgdonnx.engines.onnxruntime_training.dialect import DIFFERENTIABLE

pytestmark = pytest.mark.training

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
UPDATES = RNG.normal(size=(2, 3, 2)).astype(np.float32)
ROWS = RNG.normal(size=(3, 4)).astype(np.float32)
PLACES = np.array([[0, 1], [1, 2], [1, 0]])
FROM_BEHIND = np.array([[0, -2], [-1, 2], [1, 0]])
COLUMNS = np.array([[[0, 3], [1, 2], [3, 1]], [[2, 0], [0, 1], [3, 2]]])


def gathered(x: Array, places: Array) -> Array:
    return x[tuple(np.moveaxis(places, -1, 0))]


def scattered(x: Array, updates: Array, places: Array) -> Array:
    y = x.copy()
    y[tuple(np.moveaxis(places, -1, 0))] = updates
    return y


def along(x: Array, updates: Array, indices: Array) -> Array:
    y = x.copy()
    np.put_along_axis(y, indices % x.shape[2], updates, 2)
    return y


Case = tuple[str, int, Mapping[str, Array], Mapping[str, Array], Mapping[str, Any], Callable[..., Array]]
CASES: dict[str, Case] = {
    "Tile": ("Tile", 13, {"x": X}, {"n": np.array([1, 2, 3])}, {}, lambda x: np.tile(x, (1, 2, 3))),
    "GatherND": ("GatherND", 13, {"x": X}, {"i": PLACES}, {}, lambda x: gathered(x, PLACES)),
    "GatherND from behind": ("GatherND", 13, {"x": X}, {"i": FROM_BEHIND}, {}, lambda x: gathered(x, FROM_BEHIND)),
    "GatherND of one place twice": (
        "GatherND",
        13,
        {"x": X},
        {"i": PLACES[[0, 0, 1]]},
        {},
        lambda x: gathered(x, PLACES[[0, 0, 1]]),
    ),
    "GatherND in batches": (
        "GatherND",
        13,
        {"x": X},
        {"i": np.array([[[0], [2]], [[1], [1]]])},
        {"batch_dims": 1},
        lambda x: np.stack([x[0, [0, 2]], x[1, [1, 1]]]),
    ),
    "Trilu": ("Trilu", 14, {"x": X}, {}, {}, np.triu),
    "Trilu below": ("Trilu", 14, {"x": X}, {"k": np.array(1)}, {"upper": 0}, lambda x: np.tril(x, 1)),
    "Trilu moved": ("Trilu", 14, {"x": X}, {"k": np.array(-1)}, {"upper": 1}, lambda x: np.triu(x, -1)),
    "TopK": ("TopK", 13, {"x": X}, {"k": np.array([2])}, {}, lambda x: -np.sort(-x, 2)[:, :, :2]),
    "TopK of the smallest": (
        "TopK",
        13,
        {"x": X},
        {"k": np.array([2])},
        {"axis": 1, "largest": 0},
        lambda x: np.sort(x, 1)[:, :2],
    ),
    "ScatterND": (
        "ScatterND",
        13,
        {"x": X, "u": ROWS},
        {"i": PLACES},
        {},
        lambda x, u: scattered(x, u, PLACES),
    ),
    "ScatterND from behind": (
        "ScatterND",
        13,
        {"x": X, "u": ROWS},
        {"i": FROM_BEHIND},
        {},
        lambda x, u: scattered(x, u, FROM_BEHIND),
    ),
    "ScatterElements": (
        "ScatterElements",
        13,
        {"x": X, "u": UPDATES},
        {"i": COLUMNS},
        {"axis": 2},
        lambda x, u: along(x, u, COLUMNS),
    ),
    "ScatterElements from behind": (
        "ScatterElements",
        13,
        {"x": X, "u": UPDATES},
        {"i": COLUMNS - 4},
        {"axis": -1},
        lambda x, u: along(x, u, COLUMNS),
    ),
}


def moving(op_type: str, opset: int, dims: str, feeds: Any, constants: Any, attributes: Any) -> Any:
    names = [*feeds, *constants]
    inputs = ["x", "i", "u"] if "u" in names else names
    outputs = ["y", "places"] if op_type == "TopK" else ["y"]
    return one_node(
        op_type, feeds, opset=opset, dims=dims, constants=constants, inputs=inputs, outputs=outputs, **attributes
    )


@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_runtime_has_the_right_gradient(case: Case, newest: bool, dims: str) -> None:
    op_type, opset, feeds, constants, attributes, formula = case
    assert op_type in DIFFERENTIABLE
    check_gradients(moving(op_type, 21 if newest else opset, dims, feeds, constants, attributes), feeds, formula)


@pytest.mark.parametrize("op_type", ["ScatterElements", "ScatterND"])
def test_the_runtime_has_a_wrong_gradient_of_scattering_that_adds(op_type: str) -> None:
    # That is why it is refused: of x the gradient is 1 everywhere.
    updates, indices = (UPDATES, COLUMNS) if op_type == "ScatterElements" else (ROWS, PLACES)
    attributes = {"reduction": "add", **({"axis": 2} if op_type == "ScatterElements" else {})}
    feeds = {"x": X, "u": updates}
    model = moving(op_type, 18, STATIC, feeds, {"i": indices}, attributes)
    assert (gradients(model, feeds, np.ones(X.shape, np.float32))["x"] == 0).any()
