"""What every lowering has in common: which nodes it takes, and a pen that writes their replacements.

A lowering says how one node becomes others. The pen (`Emitter`) puts them in front of the old node, names them, and
writes each operator as the model's operator set spells it: the axes of reductions moved from an attribute to an input
at different versions, Clip likewise.

Conditions become masks, float32 tensors of 0 and 1. They are made by comparisons, through which the runtime lets no
gradient pass, and applied by multiplication: Where would be tenfold slower there, and its gradient wrong for operands
that broadcast.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.rewriting import AttributeValue, before, constant, refusal, replace

Axes = Union[Sequence[int], ir.Value, None]
"""The axes of a reduction; None or none for all."""


class Emitter:
    """Writes nodes in front of one node.

    Attributes:
        node: the node that will be replaced.
        opset: the version of the default operator set.
    """

    def __init__(self, node: ir.Node, opset: int) -> None:
        assert isinstance(node.graph, ir.Graph)
        self.node = node
        self.opset = opset
        self._graph = node.graph
        self._count = 0

    def __call__(self, op_type: str, *inputs: ir.Value, **attributes: AttributeValue) -> ir.Value:
        """Writes a node of one output and returns that."""
        return before(self.node, op_type, inputs, self._next_name(op_type), attributes)

    def import_domain(self, domain: str) -> None:
        """Declares that the graph uses version 1 of the operators of a domain."""
        self._graph.opset_imports.setdefault(domain, 1)

    def constant(self, array: NDArray[np.generic]) -> ir.Value:
        """Writes an initializer."""
        return constant(self._graph, self._next_name("constant"), array)

    def scalar(self, value: float) -> ir.Value:
        """Writes a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def ints(self, *values: int) -> ir.Value:
        """Writes a vector of int64."""
        return self.constant(np.array(values, np.int64))

    def mask(self, comparison: str, a: ir.Value, b: ir.Value) -> ir.Value:
        """Returns where ``Greater`` or ``Less`` holds, as 0 and 1; it has no gradient."""
        return self("Cast", self(comparison, a, b), to=ir.DataType.FLOAT.value)

    def complement(self, mask: ir.Value) -> ir.Value:
        """Returns the mask of all other elements."""
        return self("Sub", self.scalar(1), mask)

    def reduce(self, op_type: str, x: ir.Value, axes: Axes, *, keepdims: bool = True) -> ir.Value:
        """Returns a reduction. Axes that are a value need an operator set in which they are an input."""
        if axes is None or (not isinstance(axes, ir.Value) and not axes):
            return self(op_type, x, keepdims=int(keepdims))
        if op_type == "ReduceSum" or self.opset >= 18:
            axes = axes if isinstance(axes, ir.Value) else self.ints(*axes)
            return self(op_type, x, axes, keepdims=int(keepdims))
        assert not isinstance(axes, ir.Value)
        return self(op_type, x, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Returns ``x`` with new axes of size 1."""
        return self("Unsqueeze", x, self.ints(*axes))

    def square(self, x: ir.Value) -> ir.Value:
        """Returns x^2. Of a parameter times itself the runtime cannot build the gradient."""
        return self("Pow", x, self.scalar(2))

    def rank(self, x: ir.Value) -> int:
        """Returns the number of dimensions of ``x``, or refuses."""
        if x.shape is None:
            raise self.refusal("has an input of unknown rank", "declare the shapes of the inputs of the model")
        return len(x.shape)

    def refusal(self, reason: str, remedy: str) -> UntrainableError:
        """Returns the error that says why the node cannot be lowered, and what would help."""
        return refusal(self.node, reason, remedy)

    def _next_name(self, word: str) -> str:
        self._count += 1
        return f"{self.node.outputs[0].name}.{self._count}.{word}"


class Lowering(ir.passes.InPlacePass, abc.ABC):
    """Replaces nodes of the main graph; subgraphs, other domains, and tensors other than float32 are left alone.

    Args:
        nodes: those that may be replaced, say because a gradient passes them; all if None.
        path: all nodes that a gradient passes, if ``nodes`` are not all of them.
    """

    op_types: ClassVar[frozenset[str]]
    data_input: ClassVar[int] = 0
    """The input whose type is looked at."""
    dtypes: ClassVar[frozenset[ir.DataType]] = frozenset({ir.DataType.FLOAT})
    """The types that it may have; besides, it may not be known."""

    def __init__(self, nodes: Optional[Collection[ir.Node]] = None, path: Optional[Collection[ir.Node]] = None) -> None:
        super().__init__()
        self._nodes = nodes
        self._path = frozenset(path if path is not None else nodes or ())

    def passes_gradient(self, value: ir.Value) -> bool:
        """Whether a node that a gradient passes makes a value."""
        maker = value.producer()
        return maker is not None and maker in self._path

    @abc.abstractmethod
    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes what computes the first output of ``node`` and returns it; None leaves the node as it is.

        Raises:
            UntrainableError: the node needs to be replaced, but cannot.
        """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for emit in self.candidates(model):
            output = self.rewrite(emit, emit.node)
            if output is None:
                continue
            if output in emit.node.inputs:
                output = emit("Identity", output)
            if any(other.uses() or other.is_graph_output() for other in emit.node.outputs[1:]):
                raise emit.refusal("has a second output that is used", "only its first output can be trained through")
            replace(emit.node, output)
            modified = True
        return ir.passes.PassResult(model, modified=modified)

    def chosen(self, model: ir.Model) -> list[ir.Node]:
        """Returns the nodes of the main graph that may be replaced, in its order.

        Of few nodes only these are looked at: `check` lowers one after the other, and would go through the graph for each.
        """
        if self._nodes is None:
            return list(model.graph)
        if len(self._nodes) == 1:
            return [node for node in self._nodes if node.graph is model.graph]
        wanted = set(self._nodes)
        return [node for node in model.graph if node in wanted]

    def candidates(self, model: ir.Model) -> Iterator[Emitter]:
        """Yields a pen for every node that the pass may replace."""
        imports = model.graph.opset_imports
        opset = imports.get("", imports.get("ai.onnx", 1))
        for node in self.chosen(model):
            if node.op_type in self.op_types and node.domain in ("", "ai.onnx"):
                data = optional_input(node, self.data_input)
                if data is not None and (data.dtype is None or data.dtype in self.dtypes):
                    yield Emitter(node, opset)


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Lets ``new`` take the place of ``old``, and its name if the model gives it out."""
    new.shape, new.type, name = old.shape, old.type, old.name
    given_out = old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if given_out:
        old.name, new.name = new.name, name


def first_input(node: ir.Node) -> ir.Value:
    """Returns the first input of a node, which the operator requires."""
    return required_input(node, 0)


def required_input(node: ir.Node, index: int) -> ir.Value:
    """Returns an input that the operator requires."""
    value = node.inputs[index]
    assert value is not None
    return value


def optional_input(node: ir.Node, index: int) -> Optional[ir.Value]:
    """Returns an input, or None where the node has none there."""
    return node.inputs[index] if index < len(node.inputs) else None
