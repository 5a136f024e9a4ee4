"""What a tracing rule is, and what it sees of a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx import bounds
from tgdonnx.graphs.nodes import NodeView
from tgdonnx.layers.sizes import Shape, Sizes
from tgdonnx.tracing.origins import OriginIds, OriginTable


class UntraceableError(Exception):
    """This node's output depends on its inputs in a way that the rule cannot follow; the message says why."""


@dataclass(frozen=True)
class TracingView(NodeView):
    """A node with what is known of its inputs.

    Attributes:
        ids: the origins of its inputs; of an input that is left out those of a constant.
        sizes: the sizes of the graph.
        table: the meaning of the ids.
    """

    ids: Sequence[OriginIds]
    sizes: Sizes
    table: OriginTable

    def shape(self, index: int = 0) -> Shape:
        """Returns the shape of an input.

        Raises:
            UntraceableError: it is not known.
        """
        return self._shape(self.node.inputs[index])

    def output_shape(self, index: int = 0) -> Shape:
        """Returns the shape of an output.

        Raises:
            UntraceableError: it is not known.
        """
        return self._shape(self.node.outputs[index])

    def content(self, value: ir.Value, what: str) -> NDArray[Any]:
        """Returns what an input holds.

        Raises:
            UntraceableError: the input depends on the data, or is too large to be looked at.
        """
        if value not in self.sizes.contents:
            raise UntraceableError(f"{value.name!r}, its {what}, is computed from data")
        return self.sizes.contents[value]

    def _shape(self, value: Optional[ir.Value]) -> Shape:
        shape = self.sizes.shapes.get(value) if value is not None else None
        if shape is None:
            raise UntraceableError(f"the shape of {value.name if value is not None else None!r} is not known")
        return shape


# A rule gives the origins of all outputs: one array if they are alike, else a list. It raises UntraceableError when it
# cannot tell.
Rule = Callable[[TracingView], Union[OriginIds, list[OriginIds]]]


def of_rank(ids: OriginIds, rank: int) -> OriginIds:
    """Gives the array of an activation of so far unknown rank its axes."""
    return ids.reshape((1,) * rank) if ids.ndim == 0 else ids


def compressed(ids: OriginIds) -> OriginIds:
    """Returns the array with length 1 along every axis on which nothing changes."""
    for axis in range(ids.ndim):
        first = ids.take([0], axis=axis)
        if ids.shape[axis] > 1 and (ids == first).all():
            ids = first
    return ids


def require_length(count: int) -> None:
    """Checks that so many places may be told apart in one activation, before there is an array of them.

    Raises:
        UntraceableError: they are too many.
    """
    if count > bounds.ORIGINS_PER_VALUE:
        raise UntraceableError(
            f"it has {count:,} places that would have to be told apart; at most {bounds.ORIGINS_PER_VALUE:,} are"
        )


def full_length(ids: OriginIds, shape: Shape, axis: int) -> OriginIds:
    """Writes the array out along one axis.

    Raises:
        UntraceableError: it would be too long.
    """
    if ids.shape[axis] == 1:
        require_length(ids.size * shape[axis])
    return np.repeat(ids, shape[axis], axis=axis) if ids.shape[axis] == 1 else ids
