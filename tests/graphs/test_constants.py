"""Tensors whose values are known before the model runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.support.training_models import text_model
from tgdonnx.graphs.constants import known_array


def chain(start: str, length: int) -> ir.Value:
    names = [start, *(f"v{i}" for i in range(length - 1)), "y"]
    nodes = "\n".join(f"{after} = Neg({before})" for before, after in zip(names, names[1:]))
    model = ir.from_proto(
        text_model(f"g (float[2] x) => (float[2] y) {{\n{nodes}\n}}", c=np.array([1.5, -2], np.float32))
    )
    return model.graph.outputs[0]


def test_a_few_nodes_behind_a_constant_are_computed() -> None:
    found = known_array(chain("c", 3))
    assert found is not None
    assert found.tolist() == [-1.5, 2]


@pytest.mark.parametrize("start", ["x", "c"])
def test_of_more_nodes_than_anybody_writes_for_a_constant_nothing_is_known(start: str) -> None:
    assert known_array(chain(start, 1200)) is None


def test_what_an_input_of_the_model_decides_is_not_known() -> None:
    assert known_array(chain("x", 2)) is None


@pytest.mark.parametrize(
    ("attributes", "expected"), [("", None), ("<start = 1>", [3, 4]), ("<start = -2, end = -1>", [3])]
)
def test_of_a_shape_the_sizes_are_known_that_are_fixed(attributes: str, expected: list[int] | None) -> None:
    model = ir.from_proto(text_model(f"g (float[n, 3, 4] x) => (int64[k] y) {{ y = Shape{attributes}(x) }}"))
    found = known_array(model.graph.outputs[0])
    assert (None if found is None else found.tolist()) == expected


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("s = Shape(x) y = Gather(s, second)", [3]),
        ("s = Shape(x) t = Gather(s, second) y = Mul(t, t)", [9]),
        ("s = Shape(x) y = Slice(s, second, third)", [3]),
        ("s = Shape<start = 0>(x) y = Gather(s, last)", [4]),
        ("s = Shape(x) y = Gather(s, first)", None),
        ("s = Shape(x) y = Slice(s, first, third)", None),
        ("s = Shape(x) t = Mul(s, s) y = Gather(t, second)", None),
    ],
)
def test_of_what_is_taken_out_of_a_shape_the_fixed_sizes_are_known_though_others_are_open(
    nodes: str, expected: list[int] | None
) -> None:
    places = {"first": np.array([0]), "second": np.array([1]), "third": np.array([2]), "last": np.array([-1])}
    model = ir.from_proto(text_model(f"g (float[n, 3, 4] x) => (int64[k] y) {{ {nodes} }}", **places))
    found = known_array(model.graph.outputs[0])
    assert (None if found is None else found.tolist()) == expected
