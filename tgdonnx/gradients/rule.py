"""A rule says how a gradient passes one node, and the table has one for every operator that trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import UntrainableError
from tgdonnx.gradients.demand import Demand
from tgdonnx.graphs.builder import Builder
from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.nodes import optional_input, refusal, required_input

Propagate = Callable[
    [
        Builder,
        Sequence[ir.Node],
        Mapping[ir.Value, ir.Value],
        Sequence[ir.Value],
        Mapping[ir.Value, NDArray[Any]],
    ],
    tuple[Optional[ir.Value], ...],
]


@dataclass(frozen=True)
class Step:
    """One node on the way back.

    Attributes:
        node: the node.
        build: writes nodes.
        gradients: for each output the gradients of its parts, one each; None where none reaches it.
        demands: for each input that a gradient shall pass, by its place, the parts that are wanted; and likewise for each
            value from outside that a graph inside the node reads.
        demanded: the parts of the first output that were wanted; those of Concat and Gather may be other than the whole, and
            then ``gradients`` has one for each.
        propagate: goes back through the graphs inside the node; see `tgdonnx.gradients.differentiate.back_propagate`.
    """

    node: ir.Node
    build: Builder
    gradients: tuple[Optional[tuple[ir.Value, ...]], ...]
    demands: Mapping[Union[int, ir.Value], Demand]
    demanded: Demand
    propagate: Propagate

    @property
    def dy(self) -> ir.Value:
        """The gradient of the first output, whole."""
        return self.gradient(0)

    def gradient(self, place: int) -> ir.Value:
        """Returns the gradient of an output that gets one, whole."""
        parts = self.gradients[place]
        assert parts is not None
        assert len(parts) == 1
        return parts[0]

    @property
    def x(self) -> ir.Value:
        """The first input."""
        return self.input(0)

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def input(self, place: int) -> ir.Value:
        """Returns an input that the operator requires."""
        return required_input(self.node, place)

    def optional(self, place: int) -> Optional[ir.Value]:
        """Returns an input, or None where the node has none there."""
        return optional_input(self.node, place)

    def wants(self, place: int) -> bool:
        """Whether the gradient of an input is wanted, or a part of it."""
        return place in self.demands

    def demand(self, source: Union[int, ir.Value]) -> Demand:
        """Returns the parts that are wanted of an input, or of a value that a graph inside the node reads."""
        return self.demands[source]

    def rank(self, value: ir.Value) -> int:
        """Returns the number of axes of a value.

        Raises:
            UntrainableError: it is not known.
        """
        if value.shape is None:
            raise self.refusal("has an input of unknown rank", "declare the shapes of the inputs of the model")
        return len(value.shape)

    def sizes(self, value: ir.Value) -> tuple[Optional[int], ...]:
        """Returns the sizes of the axes of a value; None where any goes."""
        self.rank(value)
        assert value.shape is not None
        return tuple(size if isinstance(size, int) else None for size in value.shape)

    def axis(self, value: ir.Value, default: int) -> int:
        """Returns the attribute ``axis``, counted from the front."""
        axis = self.node.attributes.get_int("axis", default)
        return axis + self.rank(value) if axis < 0 else axis

    def known(self, place: int) -> Optional[np.ndarray]:
        """Returns the numbers of an input that nothing changes, no input of the model and no training; else None."""
        value = self.optional(place)
        return None if value is None or self.wants(place) else known_array(value)

    def refusal(self, reason: str, remedy: str) -> UntrainableError:
        """Returns the error that says why no gradient passes the node, and what would help."""
        return refusal(self.node, reason, remedy)


Gradient = Union[ir.Value, Sequence[ir.Value]]
"""Of an input: whole, or the wanted parts, one each."""
Rule = Callable[[Step], Union[Mapping[int, Gradient], Mapping[ir.Value, Gradient]]]
"""Returns the gradients that are wanted; a missing one is zero."""


@dataclass(frozen=True)
class Entry:
    """A rule in the table.

    Attributes:
        rule: the rule.
        carries: the inputs that it has a gradient of; None for all that hold values.
        every_output: whether it takes gradients of other outputs than the first.
    """

    rule: Rule
    carries: Optional[tuple[int, ...]]
    every_output: bool


Rules = Mapping[tuple[str, str], Entry]
"""For domains and operators; the default domain is the empty string."""

RULES: dict[tuple[str, str], Entry] = {}
"""Those in standard operators; who may use others as well puts them in their place."""


def rule(
    *op_types: str, carries: Optional[tuple[int, ...]] = None, every_output: bool = False, domain: str = ""
) -> Callable[[Rule], Rule]:
    """Enters a rule into the table.

    Args:
        op_types: the operators that it is for.
        carries: the inputs that it has a gradient of, if not of all that hold values (`tgdonnx.graphs.operators.value_inputs`);
            where a gradient would have to pass another one, the node is refused.
        every_output: whether it takes gradients of other outputs than the first; where there is one and it does not, the node
            is refused.
        domain: of the operators.
    """

    def enter(function: Rule) -> Rule:
        for op_type in op_types:
            assert (domain, op_type) not in RULES, f"two rules for {op_type}"
            RULES[domain, op_type] = Entry(function, carries, every_output)
        return function

    return enter


def entry_of(node: ir.Node, rules: Rules = RULES) -> Optional[Entry]:
    """Returns the rule for a node, or None."""
    return rules.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


def restricted(build: Builder, gradient: ir.Value, demand: Demand) -> tuple[ir.Value, ...]:
    """Returns the wanted parts of a gradient that is whole."""
    parts = []
    for part in demand:
        value = gradient
        for axis, indices in part.indices:
            value = build.take(value, indices, axis)
        parts.append(value)
    return tuple(parts)
