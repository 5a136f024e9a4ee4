"""What a node says, and what it leaves to the defaults of its operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from tgdonnx.graphs.nodes import NodeView, name_of, operator_of


class NotStoredError(Exception):
    pass


@dataclass(frozen=True)
class Stored(NodeView):
    numbers: dict[str, NDArray[Any]]

    def content(self, value: ir.Value, what: str) -> NDArray[Any]:
        if str(value.name) not in self.numbers:
            raise NotStoredError(what)
        return self.numbers[str(value.name)]


def view(op_type: str, opset: int, inputs: int = 1, numbers: dict[str, Any] | None = None, **attributes: Any) -> Stored:
    node = ir.node(op_type, [ir.Value(name=f"x{i}") for i in range(inputs)], attributes)
    return Stored(node, opset, {name: np.array(array) for name, array in (numbers or {}).items()})


@pytest.mark.parametrize(
    ("op_type", "opset", "expected"),
    [("Softmax", 12, 1), ("Softmax", 13, -1), ("ArgMax", 17, 0), ("LayerNormalization", 17, -1)],
)
def test_an_axis_that_is_left_out_is_the_default_of_the_operator_set(op_type: str, opset: int, expected: int) -> None:
    assert view(op_type, opset).integer("axis") == expected


def test_what_the_node_says_goes_before_the_default() -> None:
    assert view("Softmax", 13, axis=2).integer("axis") == 2
    assert view("Pad", 13, mode="edge").text("mode") == "edge"


def test_an_attribute_without_a_default_means_what_the_caller_says() -> None:
    assert view("ReduceSum", 11).integer("noop_with_empty_axes", 7) == 7  # came with opset 13
    assert view("ReduceSum", 13).integer("noop_with_empty_axes", 7) == 0
    assert view("Conv", 13).integers("strides") is None
    assert view("Invented", 13).text("mode", "none") == "none"


def test_axes_are_read_from_where_the_operator_set_has_them() -> None:
    assert view("ReduceMean", 13, axes=[1, -1]).stored_integers(1, "axes") == [1, -1]
    assert view("ReduceMean", 18, 2, {"x1": [2, 0]}).stored_integers(1, "axes") == [2, 0]
    assert view("ReduceMean", 18).stored_integers(1, "axes") is None


def test_an_argument_that_is_computed_is_refused_in_the_words_of_the_analysis() -> None:
    with pytest.raises(NotStoredError, match="axes"):
        view("ReduceMean", 18, 2).stored_integers(1, "axes")


def test_a_node_goes_by_its_name_in_the_file_or_by_its_first_output() -> None:
    node = ir.node("Relu", [ir.Value(name="x")], name="written")
    node.outputs[0].name = "y"
    assert name_of(node) == "written"
    node.meta["name"] = "in the file"
    assert name_of(node) == "in the file"
    node.meta.pop("name")
    node.name = ""
    assert name_of(node) == "y"
    assert operator_of(ir.node("Relu", [], domain="ai.onnx")) == "Relu"
    assert operator_of(ir.node("FusedConv", [], domain="com.microsoft")) == "com.microsoft.FusedConv"
