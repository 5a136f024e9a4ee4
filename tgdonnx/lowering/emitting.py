"""What every lowering has in common: which nodes it takes, and what writes their replacements.

A lowering says how one node becomes others. A builder (`Emitter`) puts them in front of the old node.

Conditions become masks, float32 tensors of 0 and 1. They are made by comparisons, which no gradient passes, and applied by
multiplication: Where is tenfold slower.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator
from typing import ClassVar, Optional

import onnx_ir as ir

from tgdonnx.errors import UntrainableError
from tgdonnx.graphs.builder import Builder, replace
from tgdonnx.graphs.nodes import optional_input, refusal
from tgdonnx.graphs.operators import is_standard


class Emitter(Builder):
    """Writes what stands for one node in front of it.

    Attributes:
        node: the node that will be replaced.
    """

    def __init__(self, node: ir.Node) -> None:
        assert isinstance(node.graph, ir.Graph)
        super().__init__(node.graph, str(node.outputs[0].name), place=node)
        self.node = node

    def rank(self, x: ir.Value) -> int:
        """Returns the number of dimensions of ``x``, or refuses."""
        if x.shape is None:
            raise self.refusal("has an input of unknown rank", "declare the shapes of the inputs of the model")
        return len(x.shape)

    def refusal(self, reason: str, remedy: str) -> UntrainableError:
        """Returns the error that says why the node cannot be lowered, and what would help."""
        return refusal(self.node, reason, remedy)


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
        """Yields a builder for every node that the pass may replace."""
        for node in self.chosen(model):
            if is_standard(node, self.op_types):
                data = optional_input(node, self.data_input)
                if data is not None and (data.dtype is None or data.dtype in self.dtypes):
                    yield Emitter(node)
