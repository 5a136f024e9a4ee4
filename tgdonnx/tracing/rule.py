"""What a tracing rule is, and what it sees of a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx import bounds
from tgdonnx.layers.sizes import Shape, Sizes
from tgdonnx.tracing.origins import OriginIds, OriginTable


class UntraceableError(Exception):
    """This node's output depends on its inputs in a way that the rule cannot follow; the message says why."""


@dataclass(frozen=True)
class Site:
    """A node with what is known of its inputs.

    Attributes:
        node: the node.
        opset: version of the operator set that it is from.
        ids: the origins of its inputs; of an input that is left out those of a constant.
        sizes: the sizes of the graph.
        table: the meaning of the ids.
    """

    node: ir.Node
    opset: int
    ids: Sequence[OriginIds]
    sizes: Sizes
    table: OriginTable

    def has(self, index: int) -> bool:
        """Whether the node has an input ``index``."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

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

    def content(self, index: int, what: str) -> Optional[NDArray[Any]]:
        """Returns what an input holds; None if it is left out.

        Args:
            index: which input.
            what: its meaning, for the message.

        Raises:
            UntraceableError: the input depends on the data, or is too large to be looked at.
        """
        if not self.has(index):
            return None
        value = self.node.inputs[index]
        assert value is not None
        if value not in self.sizes.contents:
            raise UntraceableError(f"{value.name!r}, its {what}, is computed from data")
        return self.sizes.contents[value]

    def integer(self, name: str, default: int) -> int:
        """Returns an integer attribute, or ``default``."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_int()

    def integers(self, name: str) -> Optional[list[int]]:
        """Returns an attribute that is a list of integers; None if it is left out."""
        attribute = self.node.attributes.get(name)
        return None if attribute is None else list(attribute.as_ints())

    def axes(self, index: int) -> Optional[list[int]]:
        """Returns axes, which older operators have as attribute and newer ones as input ``index``."""
        axes = self.integers("axes")
        if axes is None:
            content = self.content(index, "axes")
            axes = None if content is None else [int(axis) for axis in content.reshape(-1)]
        return axes

    def _shape(self, value: Optional[ir.Value]) -> Shape:
        shape = self.sizes.shapes.get(value) if value is not None else None
        if shape is None:
            raise UntraceableError(f"the shape of {value.name if value is not None else None!r} is not known")
        return shape


# A rule gives the origins of all outputs: one array if they are alike, else a list. It raises UntraceableError when it
# cannot tell.
Rule = Callable[[Site], Union[OriginIds, list[OriginIds]]]


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
