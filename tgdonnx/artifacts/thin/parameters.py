"""Parameters that hold only the rows that train.

A tensor p of which the rows R train along one axis becomes a parameter with those rows and a constant with the others. Where
a node needs the whole tensor, both are put together in the original order:

    p = Gather(Concat(p[R], p[not R]), order)

As late as possible: what is computed row by row from p (the batch norm drawn into a Conv, say) is computed of the rows in R
alone, and of the others once, here. So a Conv reads its joined filters directly, and `tgdonnx.artifacts.thin.backward` sees at
the Conv which rows of the gradient anybody wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from tgdonnx.lowering.known import known_array
from tgdonnx.lowering.quantized import DOMAIN, FAKE_QUANT
from tgdonnx.lowering.rewriting import AttributeValue, before, constant

Array = NDArray[Any]

_ELEMENTWISE: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


@dataclass(frozen=True)
class ThinParameter:
    """The rows of a tensor that train.

    Attributes:
        name: of the parameter that holds them.
        axis: along which they lie in the tensor.
    """

    name: str
    axis: int


@dataclass(frozen=True)
class _Split:
    """A tensor in two pieces.

    Attributes:
        trained: the rows that train, or what is computed from them.
        frozen: the other rows.
        axis: along which the rows lie.
        order: for each row of the tensor its place in the trained rows with the frozen ones behind them.
    """

    trained: ir.Value
    frozen: Array = field(repr=False)
    axis: int
    order: NDArray[np.int64] = field(repr=False)

    @property
    def from_the_back(self) -> int:
        """The axis as a negative number, by which broadcasting aligns."""
        return self.axis - self.frozen.ndim

    def pieces(self, array: Array) -> tuple[Array, Array]:
        """Splits an array that broadcasts against the tensor; one that is the same for all rows goes into both."""
        if array.ndim < -self.from_the_back or array.shape[self.from_the_back] == 1:
            return array, array
        frozen = len(self.order) - self.frozen.shape[self.axis]
        rows = np.argsort(self.order)
        return (
            np.take(array, rows[:frozen], self.from_the_back),
            np.take(array, rows[frozen:], self.from_the_back),
        )


def split_parameters(
    model: ir.Model, masks: Mapping[str, NDArray[np.float32]], trained: tuple[str, ...]
) -> dict[str, ThinParameter]:
    """Splits the parameters of which whole rows train, in place.

    Args:
        model: a lowered forward graph.
        masks: for each parameter its retrain mask, of a shape that broadcasts against it.
        trained: the names of all parameters, which are initializers.

    Returns:
        For the name of every tensor that was split, the parameter in its place. A tensor that trains whole stays, and so
        does one whose mask is per kernel.
    """
    graph = model.graph
    splits: dict[ir.Value, _Split] = {}
    thin: dict[str, ThinParameter] = {}
    for name in trained:
        mask = masks[name]
        axes = [axis for axis, size in enumerate(mask.shape) if size > 1]
        if mask.all() or len(axes) != 1:
            continue
        (axis,), value = axes, graph.initializers[name]
        splits[value] = _split_parameter(graph, value, axis, np.flatnonzero(mask))
        thin[name] = ThinParameter(str(splits[value].trained.name), axis)
    moving = {graph.initializers[name] for name in trained}
    joined: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        if any(value in moving for value in node.inputs):
            moving.update(node.outputs)
        read = [(place, value) for place, value in enumerate(node.inputs) if value is not None and value in splits]
        passed_on = _through(node, splits, moving) if read else None
        if passed_on is not None:
            splits[node.outputs[0]] = passed_on
            continue
        for place, value in read:
            if value not in joined:
                joined[value] = _join(node, value, splits[value])
            node.replace_input_with(place, joined[value])
    passes.RemoveUnusedNodesPass()(model)
    return thin


def _split_parameter(graph: ir.Graph, value: ir.Value, axis: int, rows: NDArray[np.intp]) -> _Split:
    assert value.const_value is not None
    array = value.const_value.numpy()
    others = np.setdiff1d(np.arange(array.shape[axis]), rows)
    trained = constant(graph, f"{value.name}.retrained", np.take(array, rows, axis))
    return _Split(trained, np.take(array, others, axis), axis, np.argsort(np.concatenate([rows, others])))


def _join(node: ir.Node, value: ir.Value, split: _Split) -> ir.Value:
    """Puts a tensor together in front of ``node``."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    frozen = constant(graph, f"{value.name}.frozen", split.frozen)
    order = constant(graph, f"{value.name}.order", split.order)
    pieces = before(node, "Concat", [split.trained, frozen], f"{value.name}.pieces", {"axis": split.axis})
    whole = before(node, "Gather", [pieces, order], f"{value.name}.whole", {"axis": split.axis})
    whole.shape, whole.type = value.shape, value.type
    return whole


def _through(node: ir.Node, splits: Mapping[ir.Value, _Split], moving: set[ir.Value]) -> Optional[_Split]:
    """Returns what the first output is in two pieces, if the node computes its rows each by itself, else None."""
    if node.outputs[0].is_graph_output():
        return None
    if (node.domain, node.op_type) == (DOMAIN, FAKE_QUANT):
        return _fake_quant(node, splits)
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in _ELEMENTWISE:
        return _elementwise(node, splits, moving)
    split = splits.get(node.inputs[0]) if node.inputs[0] is not None else None
    if split is None:
        return None
    if node.op_type == "Reshape":
        return _reshape(node, split)
    if node.op_type == "Transpose":
        return _transpose(node, split)
    return None


def _elementwise(node: ir.Node, splits: Mapping[ir.Value, _Split], moving: set[ir.Value]) -> Optional[_Split]:
    guide = next(splits[value] for value in node.inputs if value is not None and value in splits)
    trained: list[ir.Value] = []
    frozen: list[Array] = []
    for place, value in enumerate(node.inputs):
        assert value is not None
        split = splits.get(value)
        if split is not None:
            if split.from_the_back != guide.from_the_back or not np.array_equal(split.order, guide.order):
                return None
            trained.append(split.trained)
            frozen.append(split.frozen)
            continue
        array = None if value in moving else known_array(value)
        if array is None:
            return None
        pieces = guide.pieces(array)
        frozen.append(pieces[1])
        trained.append(value if pieces[0] is array else _constant(node, f"operand{place}", pieces[0]))
    result = _ELEMENTWISE[node.op_type](*frozen)
    return _Split(_row_by_row(node, trained), result, result.ndim + guide.from_the_back, guide.order)


def _fake_quant(node: ir.Node, splits: Mapping[ir.Value, _Split]) -> Optional[_Split]:
    """A rounding to a grid that is the same for all rows; see `tgdonnx.lowering.quantized`."""
    x, *grid = node.inputs
    split = splits.get(x) if x is not None else None
    known = [known_array(value) for value in grid if value is not None]
    if split is None or len(known) != 2 or known[0] is None or known[1] is None:
        return None
    least, most = (node.attributes[name].as_int() for name in ("quant_min", "quant_max"))
    steps = np.rint(split.frozen / known[0]).astype(np.float64) + known[1]
    frozen = (np.clip(steps, least, most) - known[1]).astype(np.float32) * known[0]
    inputs = [split.trained, *(value for value in grid if value is not None)]
    limits: dict[str, AttributeValue] = {"quant_min": least, "quant_max": most}
    name = f"{node.outputs[0].name}.retrained"
    trained = before(node, FAKE_QUANT, inputs, name, limits, domain=DOMAIN, outputs=2)
    return _Split(trained, frozen, split.axis, split.order)


def _reshape(node: ir.Node, split: _Split) -> Optional[_Split]:
    """A Reshape that leaves the first axis, and the rows along it, as they are."""
    shape = None if node.inputs[1] is None else known_array(node.inputs[1])
    if shape is None or split.axis != 0 or not len(shape) or node.attributes.get_int("allowzero", 0) == 1:
        return None
    rows, old = len(split.order), split.frozen.shape
    new = [old[place] if size == 0 and place else int(size) for place, size in enumerate(shape)]
    new[0] = rows if new[0] == 0 else new[0]
    if -1 in new:
        others = int(np.prod([size for size in new if size != -1]))
        new[new.index(-1)] = rows * int(np.prod(old[1:])) // others
    if new[0] != rows:
        return None
    target = np.array([-1, *new[1:]], np.int64)
    trained = _row_by_row(node, [split.trained, _constant(node, "shape", target)])
    return _Split(trained, split.frozen.reshape(target), 0, split.order)


def _transpose(node: ir.Node, split: _Split) -> _Split:
    rank = split.frozen.ndim
    perm = (
        [int(axis) for axis in node.attributes["perm"].as_ints()] if "perm" in node.attributes else [*range(rank)][::-1]
    )
    trained = _row_by_row(node, [split.trained], {"perm": perm})
    return _Split(trained, split.frozen.transpose(perm), perm.index(split.axis), split.order)


def _row_by_row(
    node: ir.Node, inputs: list[ir.Value], attributes: Optional[dict[str, AttributeValue]] = None
) -> ir.Value:
    return before(node, node.op_type, inputs, f"{node.outputs[0].name}.retrained", attributes)


def _constant(node: ir.Node, word: str, array: Array) -> ir.Value:
    assert isinstance(node.graph, ir.Graph)
    return constant(node.graph, f"{node.outputs[0].name}.{word}", array)
