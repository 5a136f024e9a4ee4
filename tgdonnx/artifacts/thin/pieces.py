"""A tensor in pieces, some of which train, and the nodes that put them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.artifacts.thin.cuts import Cut
from tgdonnx.graphs.builder import Builder, constant

Array = NDArray[Any]


@dataclass(frozen=True)
class Split:
    """A tensor in pieces.

    Attributes:
        trained: the rows that train, or what is computed from them.
        others: the other rows: numbers, or in pieces themselves, along another axis.
        axis: along which the rows lie.
        rows: which of the tensor's the first are.
        order: for each row of the tensor its place in the trained rows with the others behind them.
    """

    trained: ir.Value
    others: Union[Array, Split] = field(repr=False)
    axis: int
    rows: NDArray[np.int64] = field(repr=False)
    order: NDArray[np.int64] = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions of the tensor."""
        others = self.others.shape
        return (*others[: self.axis], len(self.order), *others[self.axis + 1 :])

    @property
    def from_the_back(self) -> int:
        """The axis as a negative number, by which broadcasting aligns."""
        return self.axis - len(self.shape)

    @property
    def names(self) -> list[str]:
        """The names of the pieces that train."""
        return [str(self.trained.name), *(self.others.names if isinstance(self.others, Split) else [])]

    @property
    def last_axis(self) -> int:
        """The last axis along which anything is cut."""
        return max(self.axis, self.others.last_axis) if isinstance(self.others, Split) else self.axis

    def cut_alike(self, part: Part) -> Optional[tuple[Part, Part]]:
        """Cuts in two what broadcasts against the tensor, along the same rows; None for what is cut in another way.

        Numbers that are the same for all rows go into both.
        """
        if isinstance(part, ir.Value):
            return None
        if isinstance(part, Split):
            alike = part.from_the_back == self.from_the_back and len(part.order) == len(self.order)
            return (part.trained, part.others) if alike and np.array_equal(part.rows, self.rows) else None
        if part.ndim < -self.from_the_back or part.shape[self.from_the_back] == 1:
            return part, part
        others = np.setdiff1d(np.arange(len(self.order)), self.rows)
        return np.take(part, self.rows, self.from_the_back), np.take(part, others, self.from_the_back)

    def each(
        self, value: Callable[[ir.Value], ir.Value], array: Callable[[Array], Array], axis: Callable[[int], int]
    ) -> Split:
        """Returns the tensor with something done to every piece, that trains or is frozen, and to the axes."""
        others = self.others.each(value, array, axis) if isinstance(self.others, Split) else array(self.others)
        return replace(self, trained=value(self.trained), others=others, axis=axis(self.axis))


Part = Union[ir.Value, Array, Split]
"""A piece that trains whole, numbers, or a tensor in pieces."""


def split(graph: ir.Graph, name: str, array: Array, cuts: Sequence[Cut]) -> Split:
    """Cuts a tensor, and adds each piece that trains to the graph, as an initializer.

    Args:
        graph: the graph.
        name: of the tensor.
        array: its values.
        cuts: at least one; each cuts what the one before it left.
    """
    first, *rest = cuts
    trained = constant(graph, f"{name}.retrained", np.take(array, first.chosen, first.axis))
    left: Array = np.take(array, first.others, first.axis)
    others = split(graph, f"{name}.others", left, rest) if rest else left
    return Split(trained, others, first.axis, first.chosen, np.argsort(np.concatenate([first.chosen, first.others])))


def join(node: ir.Node, name: str, parts: Split) -> ir.Value:
    """Puts a tensor together in front of ``node``."""
    build = Builder.before(node, word=name)
    if isinstance(parts.others, Split):
        others = join(node, f"{name}.others", parts.others)
    else:
        others = build.constant(parts.others, "frozen")
    pieces = build("Concat", parts.trained, others, axis=parts.axis)
    whole = build("Gather", pieces, build.constant(parts.order, "order"), axis=parts.axis)
    for value in (pieces, whole):  # inference may not come so far: it knows no operators of other domains
        value.shape, value.type = (
            ir.Shape(parts.shape),
            others.type,
        )  # what trains may be computed, and not be known yet
    return whole
