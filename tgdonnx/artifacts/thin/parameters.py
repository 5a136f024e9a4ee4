"""Parameters that hold only what trains.

A tensor p of which the rows R train along one axis becomes a parameter with those rows and a constant with the others. Where
a node needs the whole tensor, both are put together in the original order:

    p = Gather(Concat(p[R], p[not R]), order)

Where columns C train in the other rows too, p[not R] is put together in the same way, of another parameter, p[not R, C], and a
constant. Where no row trains whole, p is.

As late as possible: what is computed row by row from p (the batch norm drawn into a Conv, say) is computed of each piece that
trains, and of what is frozen once, here. So a Conv reads its joined filters directly, and whoever goes back through it sees
which part of the gradient anybody wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from tgdonnx.artifacts.thin.cuts import cuts_of, piece
from tgdonnx.artifacts.thin.pieces import Part, Split, join, split
from tgdonnx.graphs.builder import AttributeValue, Builder
from tgdonnx.graphs.captured import captured_values, graphs_within
from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.operators import is_standard
from tgdonnx.lowering.fake_quantize import is_fake_quantize, limits

Array = NDArray[Any]

_ELEMENTWISE: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


@dataclass(frozen=True)
class ThinParameter:
    """A piece of a tensor that trains.

    Attributes:
        name: of the parameter that holds it.
        part: where in the tensor it lies: for each axis of which it has not all, the indices that it has, ascending.
    """

    name: str
    part: tuple[tuple[int, tuple[int, ...]], ...]


def split_parameters(
    model: ir.Model,
    masks: Mapping[str, NDArray[np.float32]],
    trained: tuple[str, ...],
    filter_axes: Mapping[str, int],
) -> dict[str, tuple[ThinParameter, ...]]:
    """Splits the parameters of which rows or columns train, in place.

    Args:
        model: a lowered forward graph.
        masks: for each parameter its retrain mask, of a shape that broadcasts against it.
        trained: the names of all parameters, which are initializers.
        filter_axes: for the names of parameters the axis that counts filters, where one does.

    Returns:
        For the name of every tensor that was split, the parameters in its place. A tensor that trains whole stays, and so
        does one whose mask is no union of rows and columns.
    """
    graph = model.graph
    splits: dict[ir.Value, Split] = {}
    thin: dict[str, tuple[ThinParameter, ...]] = {}
    for name in trained:
        cuts, value = cuts_of(masks[name], filter_axes.get(name)), graph.initializers[name]
        if not cuts:
            continue
        assert value.const_value is not None
        splits[value] = split(graph, name, value.const_value.numpy(), cuts)
        thin[name] = tuple(
            ThinParameter(held, tuple((axis, tuple(map(int, indices))) for axis, indices in piece(cuts[: i + 1])))
            for i, held in enumerate(splits[value].names)
        )
    moving = {graph.initializers[name] for name in trained}
    joined: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        captured = captured_values(node)
        if any(value in moving for value in (*node.inputs, *captured)):
            moving.update(node.outputs)
        read = [value for value in dict.fromkeys((*node.inputs, *captured)) if value is not None and value in splits]
        passed_on = _through(node, splits, moving) if read else None
        if passed_on is not None:
            splits[node.outputs[0]] = passed_on
            continue
        for value in read:
            if value not in joined:
                joined[value] = join(node, str(value.name), splits[value])
                joined[value].shape, joined[value].type = value.shape, value.type
            _read_instead(node, value, joined[value])
    passes.RemoveUnusedNodesPass()(model)
    return thin


def _read_instead(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    """Makes a node, and the graphs inside it, read another value."""
    inside = [inner for graph in graphs_within(node) for inner in graph]
    for reader in (node, *inside):
        for place, value in enumerate(reader.inputs):
            if value is old:
                reader.replace_input_with(place, new)
    for graph in graphs_within(node):
        graph.outputs[:] = [new if value is old else value for value in graph.outputs]


def _through(node: ir.Node, splits: Mapping[ir.Value, Split], moving: set[ir.Value]) -> Optional[Split]:
    """Returns what the first output is in pieces, if the node computes each from those of its inputs, else None."""
    if node.outputs[0].is_graph_output():
        return None
    if is_fake_quantize(node):
        return _fake_quantize(node, splits)
    if not is_standard(node):
        return None
    if node.op_type in _ELEMENTWISE:
        return _elementwise(node, splits, moving)
    x = splits.get(node.inputs[0]) if node.inputs[0] is not None else None
    if x is None:
        return None
    if node.op_type == "Reshape":
        return _reshape(node, x)
    if node.op_type == "Transpose":
        return _transpose(node, x)
    return None


def _elementwise(node: ir.Node, splits: Mapping[ir.Value, Split], moving: set[ir.Value]) -> Optional[Split]:
    parts: list[Part] = []
    for value in node.inputs:
        assert value is not None
        part = splits.get(value, None if value in moving else known_array(value))
        if part is None:
            return None
        parts.append(part)
    result = _combined(node, parts)
    assert not isinstance(result, ir.Value)
    return result if isinstance(result, Split) else None


def _combined(node: ir.Node, parts: Sequence[Part]) -> Optional[Part]:
    """Returns what an elementwise node computes of tensors in pieces; None where they are cut in different ways."""
    guide = next((part for part in parts if isinstance(part, Split)), None)
    if guide is None:
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        if len(arrays) == len(parts):
            combined: Array = _ELEMENTWISE[node.op_type](*arrays)
            return combined
        return _row_by_row(node, [_operand(node, part) for part in parts])
    halves = [half for half in map(guide.cut_alike, parts) if half is not None]
    if len(halves) < len(parts):
        return None
    trained, others = (_combined(node, half) for half in zip(*halves))
    if not isinstance(trained, ir.Value) or others is None or isinstance(others, ir.Value):
        return None
    return replace(guide, trained=trained, others=others, axis=len(others.shape) + guide.from_the_back)


def _operand(node: ir.Node, part: Part) -> ir.Value:
    assert not isinstance(part, Split)
    return part if isinstance(part, ir.Value) else Builder.before(node).constant(part, "operand")


def _fake_quantize(node: ir.Node, splits: Mapping[ir.Value, Split]) -> Optional[Split]:
    """A rounding to a grid that is the same for all rows; see `tgdonnx.lowering.quantized`."""
    real, *grid = node.inputs
    x = splits.get(real) if real is not None else None
    known = [known_array(value) for value in grid if value is not None]
    if x is None or len(known) != 2 or known[0] is None or known[1] is None:
        return None
    scale, offset = known
    least, most = (node.attributes[name].as_int() for name in ("least", "most"))

    def emitted(value: ir.Value) -> ir.Value:
        return _row_by_row(node, [value, *grid], limits(least, most))

    def rounded(array: Array) -> Array:
        steps = np.rint(array / scale).astype(np.float64) + offset
        return np.asarray((np.clip(steps, least, most) - offset).astype(np.float32) * scale)

    return x.each(emitted, rounded, lambda axis: axis)


def _reshape(node: ir.Node, x: Split) -> Optional[Split]:
    """A Reshape that leaves the axes that are cut, and all before them, as they are."""
    shape = None if node.inputs[1] is None else known_array(node.inputs[1])
    if shape is None or node.attributes.get_int("allowzero", 0) == 1:
        return None
    old = x.shape
    new = [old[place] if size == 0 else int(size) for place, size in enumerate(shape)]
    if -1 in new:
        others = int(np.prod([size for size in new if size != -1]))
        new[new.index(-1)] = int(np.prod(old)) // others
    kept = x.last_axis + 1
    if tuple(new[:kept]) != old[:kept]:
        return None
    target = Builder.before(node).ints(*[0] * kept, *new[kept:])
    return x.each(
        lambda value: _row_by_row(node, [value, target]),
        lambda array: array.reshape(*array.shape[:kept], *new[kept:]),
        lambda axis: axis,
    )


def _transpose(node: ir.Node, x: Split) -> Split:
    rank = len(x.shape)
    perm = (
        [int(axis) for axis in node.attributes["perm"].as_ints()] if "perm" in node.attributes else [*range(rank)][::-1]
    )
    return x.each(
        lambda value: _row_by_row(node, [value], {"perm": perm}), lambda array: array.transpose(perm), perm.index
    )


def _row_by_row(
    node: ir.Node, inputs: Sequence[Optional[ir.Value]], attributes: Optional[Mapping[str, AttributeValue]] = None
) -> ir.Value:
    """Writes a node again, for a piece that trains."""
    build, attributes = Builder.before(node), attributes or {}
    return build.several(node.op_type, inputs, attributes, len(node.outputs), domain=node.domain, word="retrained")[0]
