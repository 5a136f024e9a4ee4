"""Writing nodes: one way for everything that adds to a graph, be it a lowering, a loss or a gradient.

What is added is called ``tgdonnx::...``, so that it cannot meet a name of the vendor's, and has its type where the types of the
inputs are known: a constant must be of the type of what it meets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.operators import opset_of, output_types

PREFIX = "tgdonnx::"
AttributeValue = Union[int, float, str, Sequence[int], Sequence[float], ir.Graph]
Axes = Union[Sequence[int], ir.Value, None]
"""The axes of a reduction; None or none for all."""

_AXES_ARE_INPUTS = (
    18  # of reductions but for ReduceSum, whose axes are one since 13, as are those of Squeeze and Unsqueeze
)


class Builder:
    """Writes nodes, in front of a node or to be put somewhere later.

    Attributes:
        nodes: written so far and not in the graph yet, in order.
        opset: the version of the default operator set.

    Args:
        graph: what the nodes are for; it gets the constants at once.
        word: what the names of nodes' outputs begin with, behind `PREFIX`.
        place: the node in front of which nodes are put at once; if None, they are collected in ``nodes``.
        names: the main graph, if ``graph`` lies inside one of its nodes: names are unique in all of it.
    """

    def __init__(
        self, graph: ir.Graph, word: str, *, place: Optional[ir.Node] = None, names: Optional[ir.Graph] = None
    ) -> None:
        self.nodes: list[ir.Node] = []
        self._graph, self._names = graph, names if names is not None else graph
        self.opset = opset_of(self._names)
        self._word, self._place = word, place
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    @staticmethod
    def before(node: ir.Node, *, word: Optional[str] = None) -> Builder:
        """Returns a builder that puts nodes in front of one, named after its first output if no word is given."""
        assert isinstance(node.graph, ir.Graph)
        return Builder(node.graph, str(node.outputs[0].name) if word is None else word, place=node)

    def inside(self, graph: ir.Graph) -> Builder:
        """Returns a builder that collects nodes for a graph inside a node."""
        return Builder(graph, self._word, names=self._names)

    def about(self, word: str) -> None:
        """Changes what names begin with from now on."""
        self._word = word

    def __call__(self, op_type: str, *inputs: Optional[ir.Value], **attributes: AttributeValue) -> ir.Value:
        """Writes a node of one output and returns that."""
        return self.several(op_type, inputs, attributes)[0]

    def several(
        self,
        op_type: str,
        inputs: Sequence[Optional[ir.Value]],
        attributes: Mapping[str, Union[AttributeValue, ir.Attr]],
        outputs: int = 1,
        *,
        domain: str = "",
        word: Optional[str] = None,
    ) -> Sequence[ir.Value]:
        """Writes a node and returns its outputs.

        Args:
            op_type: its operator.
            inputs: what it reads; None where an input is left out.
            attributes: its attributes.
            outputs: how many.
            domain: of the operator; the graph imports its version 1 if it imports none.
            word: what the outputs are called behind the word of the builder; the operator if None.
        """
        told = [_attribute(name, value) for name, value in attributes.items()]
        node = ir.Node(domain, op_type, inputs, told, num_outputs=outputs)
        if domain:
            self._names.opset_imports.setdefault(domain, 1)
        for value, kind in zip(node.outputs, output_types(node, self.opset)):
            value.name = fresh_name(self._names, f"{self._word}.{word or op_type}")
            value.type = None if kind is None else ir.TensorType(kind)
        if self._place is None:
            self.nodes.append(node)
        else:
            self._graph.insert_before(self._place, node)
        return node.outputs

    def rename(self, value: ir.Value) -> None:
        """Gives a value a name that nothing else has."""
        value.name = fresh_name(self._names, str(value.name))

    def constant(self, array: NDArray[Any], word: str = "constant") -> ir.Value:
        """Returns an initializer; of the same numbers the same one, whatever the word it would be called by."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = constant(self._graph, f"{self._word}.{word}", array, names=self._names)
        return self._constants[key]

    def initializer(self, array: NDArray[Any], name: str) -> ir.Value:
        """Returns an initializer of its own, whatever others hold, under a name that says what it is."""
        return constant(self._graph, name, array, names=self._names)

    def scalar(self, number: float, like: Optional[ir.Value] = None) -> ir.Value:
        """Returns a scalar of the type of a value; float32 without one, or where its type is not known."""
        dtype = np.dtype(np.float32) if like is None or like.dtype is None else like.dtype.numpy()
        return self.constant(np.array(number).astype(dtype))

    def ints(self, *numbers: int) -> ir.Value:
        """Returns a vector of int64."""
        return self.constant(np.array(numbers, np.int64))

    def cast(self, value: ir.Value, like: Union[ir.Value, ir.DataType]) -> ir.Value:
        """Returns a value in a type, or in that of another; float32 where that is not known."""
        dtype = like.dtype if isinstance(like, ir.Value) else like
        return self("Cast", value, to=(dtype or ir.DataType.FLOAT).value)

    def mask(self, comparison: str, a: ir.Value, b: ir.Value) -> ir.Value:
        """Returns where a comparison holds as 1, and elsewhere 0, of the type of ``a``; no gradient passes it.

        A product with it is what the runtime does fastest: of 8 x 64 x 64 x 64 numbers, Greater, Cast and Mul take 3.4 ms,
        Sign and Mul 13, Greater and Where 59 (onnxruntime 1.32, 2 cores).
        """
        return self.cast(self(comparison, a, b), a)

    def complement(self, mask: ir.Value) -> ir.Value:
        """Returns the mask of all other elements."""
        return self("Sub", self.scalar(1, mask), mask)

    def reduce(self, op_type: str, x: ir.Value, axes: Axes = None, *, keepdims: bool = True) -> ir.Value:
        """Returns a reduction, spelled as the operator set has it; axes that are a value need one that has them as an input."""
        if axes is None or (not isinstance(axes, ir.Value) and not axes):
            return self(op_type, x, keepdims=int(keepdims))
        if op_type == "ReduceSum" or self.opset >= _AXES_ARE_INPUTS:
            axes = axes if isinstance(axes, ir.Value) else self.ints(*axes)
            return self(op_type, x, axes, keepdims=int(keepdims))
        assert not isinstance(axes, ir.Value)
        return self(op_type, x, axes=list(axes), keepdims=int(keepdims))

    def sum(self, x: ir.Value, axes: Union[Sequence[int], ir.Value], *, keepdims: bool) -> ir.Value:
        """Returns a sum over axes; over none, the value itself."""
        if not isinstance(axes, ir.Value):
            if not axes:
                return x
            axes = self.ints(*axes)
        return self("ReduceSum", x, axes, keepdims=int(keepdims), noop_with_empty_axes=1)

    def unsqueeze(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Returns ``x`` with new axes of size 1."""
        return self("Unsqueeze", x, self.ints(*axes))

    def reshape(self, x: ir.Value, sizes: Sequence[int]) -> ir.Value:
        """Returns ``x`` in other sizes; 0 stands for the size that it has there, -1 for what is left."""
        return self("Reshape", x, self.ints(*sizes))

    def take(self, value: ir.Value, indices: Sequence[int], axis: int) -> ir.Value:
        """Returns the places of an axis that ``indices`` name; a stretch of it without a list of places."""
        first, count = indices[0], len(indices)
        if tuple(indices) == tuple(range(first, first + count)):
            return self("Slice", value, self.ints(first), self.ints(first + count), self.ints(axis))
        return self("Gather", value, self.ints(*indices), axis=axis)


def _attribute(name: str, value: Union[AttributeValue, ir.Attr]) -> ir.Attr:
    """Returns an attribute. Of the usual types it is made here: onnx_ir tries all that there are, slowly."""
    if isinstance(value, ir.Attr):
        return value
    if isinstance(value, int):
        return ir.AttrInt64(name, value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, int) for each in value):
        return ir.AttrInt64s(name, value)
    return ir.convenience.convert_attribute(name, value)


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic], *, names: Optional[ir.Graph] = None) -> ir.Value:
    """Adds an initializer to the graph, called ``PREFIX + name``, and returns its value.

    Args:
        graph: the graph.
        name: of the initializer; it gets a number if it is taken.
        array: the numbers.
        names: the graph that knows which names are taken, if not this one.
    """
    name = fresh_name(graph if names is None else names, name)
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def fresh_name(graph: ir.Graph, name: str) -> str:
    """Returns ``PREFIX + name``, with a number if it is taken: what one pass wrote, the next may replace.

    A vendor's file has such names where it was made of one of our graphs.
    """
    name = name[len(PREFIX) :] if name.startswith(PREFIX) else name
    if PREFIX not in graph.meta:
        graph.meta[PREFIX] = ({}, _names_like_ours(graph))
    count, found = graph.meta[PREFIX]
    while True:
        count[name] = count.get(name, 0) + 1
        fresh = f"{PREFIX}{name}" if count[name] == 1 else f"{PREFIX}{name}#{count[name]}"
        if fresh not in found:
            return fresh


def _names_like_ours(graph: ir.Graph) -> frozenset[str]:
    """Returns the names in a graph and its subgraphs that begin like ours."""
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph.all_nodes() for v in node.outputs)]
    return frozenset(value.name for value in values if value.name is not None and value.name.startswith(PREFIX))


def replace(node: ir.Node, output: ir.Value) -> None:
    """Lets ``output`` take the place, and the name, of the first output of ``node``, and removes the node."""
    graph, old = node.graph, node.outputs[0]
    assert graph is not None
    output.shape, output.type = old.shape, old.type
    name = old.name
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    output.name = name


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Lets ``new`` take the place of ``old``, and its name if the model gives it out."""
    new.shape, new.type, name = old.shape, old.type, old.name
    given_out = old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if given_out:
        old.name, new.name = new.name, name
