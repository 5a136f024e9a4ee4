"""What of a gradient is wanted: demand comes before the gradient, so that nobody computes what nobody reads.

A parameter that holds some rows of a tensor is joined with the constant rest before a layer reads it,

    W = Gather(Concat(W[R], W[not R]), order)

and of the gradient of W only rows R are of use. So what is wanted of a value is a tuple of *parts* of it, and parts pass
through the join without a node: those of a Concat are those of its inputs, moved; those of a Gather of fixed places are
those of its input, found again. A rule is told which parts are wanted of each input, and may compute just them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

import onnx_ir as ir

from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.operators import is_standard


@dataclass(frozen=True)
class Part:
    """A part of a tensor.

    Attributes:
        indices: for each axis of which it has not all, the indices that it has, in the order in which it has them.
    """

    indices: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return not self.indices

    def along(self, axis: int) -> Optional[tuple[int, ...]]:
        """Returns the indices along an axis, or None for all."""
        return dict(self.indices).get(axis)

    def with_indices(self, axis: int, indices: Iterable[int]) -> Part:
        """Returns the part with other indices along one axis."""
        return Part(tuple(sorted({**dict(self.indices), axis: tuple(int(i) for i in indices)}.items())))


Demand = tuple[Part, ...]
"""The parts of a gradient that are wanted, one after the other; no element is in two of them."""

WHOLE: Demand = (Part(),)


def demands_of(
    nodes: Iterable[ir.Node], wanted: Iterable[ir.Value], path: Mapping[ir.Node, Sequence[Union[int, ir.Value]]]
) -> dict[ir.Value, Demand]:
    """Returns what is wanted of the gradient of every value that depends on the wanted ones.

    Args:
        nodes: a graph, in topological order.
        wanted: the values whose gradients are wanted, whole.
        path: as `tgdonnx.graphs.paths.path_between` gives it.
    """
    demands = dict.fromkeys(wanted, WHOLE)
    for node in nodes:
        if node in path:
            behind = _behind(node, demands)
            demands.update((value, behind) for value in node.outputs if value not in demands)
    return demands


def _behind(node: ir.Node, demands: Mapping[ir.Value, Demand]) -> Demand:
    found = None
    if is_standard(node) and len(node.outputs) == 1:
        if node.op_type == "Concat":
            found = _behind_concat(node, demands)
        elif node.op_type == "Gather":
            found = _behind_gather(node, demands)
    return WHOLE if found is None else found


def _behind_concat(node: ir.Node, demands: Mapping[ir.Value, Demand]) -> Optional[Demand]:
    """Returns the parts of the inputs, input by input, where they lie in the output; None where all is wanted, or unknown."""
    if all(value in demands and demands[value] == WHOLE for value in node.inputs if value is not None):
        return None
    parts: list[Part] = []
    start = 0
    for value in node.inputs:
        shape = None if value is None else value.shape
        if value is None or shape is None:
            return None
        axis = node.attributes["axis"].as_int() % len(shape)
        size = shape[axis]
        if not isinstance(size, int):
            return None
        for part in demands.get(value, ()):
            along = part.along(axis)
            parts.append(part.with_indices(axis, (start + i for i in (range(size) if along is None else along))))
        start += size
    return tuple(parts)


def _behind_gather(node: ir.Node, demands: Mapping[ir.Value, Demand]) -> Optional[Demand]:
    """Returns where the parts of the input lie in the output; None where all is wanted, or an element is not there once."""
    data, places = node.inputs[:2]
    if data is None or places is None or data.shape is None or demands[data] == WHOLE:
        return None
    indices, axis = known_array(places), node.attributes.get_int("axis", 0) % len(data.shape)
    size = data.shape[axis]
    if indices is None or indices.ndim != 1 or not isinstance(size, int):
        return None
    place = {int(index) % size: position for position, index in enumerate(indices)}
    parts = []
    for part in demands[data]:
        along = part.along(axis)
        along = tuple(range(size)) if along is None else along
        if len(place) != len(indices) or any(index not in place for index in along):
            return None
        parts.append(part.with_indices(axis, (place[index] for index in along)))
    return tuple(parts)
