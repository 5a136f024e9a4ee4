"""What an engine can differentiate, and how the rest becomes that."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Optional

import onnx_ir as ir

from tgdonnx.lowering.emitting import Lowering


@dataclass(frozen=True)
class Dialect:
    """The operators that an engine trains.

    Attributes:
        opset: the oldest that its rules are written for; older models are converted up.
        preparing: what is done to a whole graph first.
        lowerings: what is done to nodes on a gradient path, in this order: what one writes, a later one may take.
        takes: whether a lowering may have a node; the others stay as they are.
        path: the nodes that a gradient passes between parameters, by name, and the outputs of a graph, in its order.
        why_not: why a node has no gradient, and what would help; None if it has one.
        enters_branches: whether filters inside the branches of an If train.
    """

    opset: int
    preparing: tuple[Callable[[ir.Model, Collection[str]], object], ...]
    lowerings: tuple[type[Lowering], ...]
    takes: Callable[[ir.Node], bool]
    path: Callable[[ir.Graph, Collection[str]], list[ir.Node]]
    why_not: Callable[[ir.Node], Optional[tuple[str, str]]]
    enters_branches: bool
