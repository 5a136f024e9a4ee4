"""Numbers that are known when a graph is rewritten, or else are computed when it runs.

A lowering writes its formula once. Where all operands are known, numpy evaluates it and nothing is added to the graph;
where one is a value of the graph (the height of an image, say), nodes are added in front of the node that is lowered.
Known numbers are arrays of the type that the graph would use, so that both ways round alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import UntrainableError
from tgdonnx.graphs.builder import AttributeValue
from tgdonnx.graphs.constants import known_array
from tgdonnx.lowering.emitting import Emitter

Number = Union[NDArray[Any], ir.Value]
"""An array, or a value of the graph."""

_KNOWN: dict[str, Callable[..., NDArray[Any]]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Ceil": np.ceil,
    "Equal": np.equal,
    "Floor": np.floor,
    "Greater": np.greater,
    "Less": np.less,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mod": np.fmod,
    "Mul": np.multiply,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Round": np.rint,
    "Sub": np.subtract,
}


def int64(number: Union[int, Sequence[int]]) -> NDArray[np.int64]:
    """Returns a number as the graph's shapes have it."""
    return np.array(number, np.int64)


def float32(number: float) -> NDArray[np.float32]:
    """Returns a number as the graph's activations have it."""
    return np.array(number, np.float32)


class Arithmetic:
    """Computes in front of one node.

    Args:
        emit: the builder that writes there.
    """

    def __init__(self, emit: Emitter) -> None:
        self._emit = emit
        self._added: list[ir.Value] = []
        self._shapes: dict[ir.Value, ir.Value] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    @property
    def opset(self) -> int:
        """The version of the default operator set."""
        return self._emit.opset

    def refusal(self, reason: str, remedy: str) -> UntrainableError:
        """Returns the error that says why the node cannot be lowered, and what would help."""
        return self._emit.refusal(reason, remedy)

    def value(self, number: Number) -> ir.Value:
        """Returns a value of the graph; a known number becomes an initializer."""
        if isinstance(number, ir.Value):
            return number
        key = (number.dtype.str, number.shape, number.tobytes())
        if key not in self._constants:
            self._constants[key] = self._emit.constant(number)
            self._added.append(self._constants[key])
        return self._constants[key]

    def emit(self, op_type: str, *inputs: Number, **attributes: AttributeValue) -> ir.Value:
        """Adds a node of one output, and returns that."""
        self._added.append(self._emit(op_type, *(self.value(number) for number in inputs), **attributes))
        return self._added[-1]

    def tidy(self, result: ir.Value) -> ir.Value:
        """Takes away what was added and is not needed for the result, and returns that."""
        graph = self._emit.node.graph
        assert isinstance(graph, ir.Graph)
        for value in reversed(self._added):
            node = value.producer()
            if value is result or value.uses():
                continue
            if node is not None:
                graph.remove(node, safe=True)
            else:
                del graph.initializers[str(value.name)]
        return result

    def compute(self, op_type: str, *operands: Number, **attributes: AttributeValue) -> Number:
        """Returns the result of an elementwise operator, whose operands have one type; Mod is that of fmod = 1."""
        known = [number for number in operands if not isinstance(number, ir.Value)]
        if len(known) == len(operands):
            return np.asarray(_KNOWN[op_type](*known))
        return self.emit(op_type, *operands, **attributes)

    def divide(self, dividend: Number, divisor: Number) -> Number:
        """Returns the quotient; of integers, which must not be negative, the integral part."""
        if isinstance(dividend, ir.Value) or isinstance(divisor, ir.Value):
            return self.emit("Div", dividend, divisor)
        integral = np.issubdtype(dividend.dtype, np.integer)
        return np.asarray(np.floor_divide(dividend, divisor) if integral else np.divide(dividend, divisor))

    def cast(self, number: Number, dtype: ir.DataType) -> Number:
        """Returns the number in another type; to integers, it is cut towards zero."""
        if isinstance(number, ir.Value):
            return self.emit("Cast", number, to=int(dtype))
        return number.astype(dtype.numpy())

    def size(self, x: ir.Value, axis: int) -> Number:
        """Returns the size of ``x`` along an axis, counted from the front, as a scalar."""
        dim = x.shape[axis] if x.shape is not None else None
        if isinstance(dim, int):
            return int64(dim)
        if x not in self._shapes:
            self._shapes[x] = self.emit("Shape", x)
        return self.emit("Gather", self._shapes[x], int64(axis), axis=0)

    def product(self, numbers: Sequence[Number]) -> Number:
        """Returns the product of integers, as a scalar."""
        result: Number = int64(1)
        for index, number in enumerate(numbers):
            result = self.compute("Mul", result, number) if index else number
        return result

    def count(self, n: Number) -> Number:
        """Returns the integers 0 ... n - 1."""
        if not isinstance(n, ir.Value):
            return np.arange(int(n), dtype=np.int64)
        ones = self.emit("Add", self.emit("ConstantOfShape", self.emit("Reshape", n, int64([1]))), float32(1))
        return self.emit("Reshape", self.emit("NonZero", ones), int64([-1]))

    def reshape(self, x: Number, dims: Sequence[Union[int, Number]]) -> ir.Value:
        """Adds a Reshape; in ``dims`` 0 stands for the dimension of ``x`` at this place, and one may be -1."""
        numbers = [int64(dim) if isinstance(dim, int) else dim for dim in dims]
        open_dims = [place for place, dim in enumerate(numbers) if isinstance(dim, ir.Value)]
        if open_dims and not any(not isinstance(dim, ir.Value) and int(dim) == -1 for dim in numbers):
            numbers[open_dims.pop()] = int64(-1)
        if not open_dims:
            return self.emit("Reshape", x, int64([int(dim) for dim in numbers if not isinstance(dim, ir.Value)]))
        parts = [
            self.emit("Reshape", dim, int64([1])) if isinstance(dim, ir.Value) else dim.reshape(1) for dim in numbers
        ]
        return self.emit("Reshape", x, self.emit("Concat", *parts, axis=0))

    def column(self, vector: Number) -> Number:
        """Returns a vector as a matrix of one column."""
        return self.emit("Reshape", vector, int64([-1, 1])) if isinstance(vector, ir.Value) else vector.reshape(-1, 1)

    def unsqueeze(self, x: Number, axis: int) -> ir.Value:
        """Adds a node that inserts an axis of size 1 into ``x``; the axis is counted from the front."""
        return self._emit.unsqueeze(self.value(x), [axis])

    def cut(self, x: ir.Value, axes: Sequence[int], begins: Sequence[int], ends: Sequence[Optional[int]]) -> ir.Value:
        """Adds a Slice; an end may be negative, counted from the back, and None means all."""
        stops = int64([np.iinfo(np.int64).max if end is None else end for end in ends])
        return self.emit("Slice", x, int64(list(begins)), stops, int64(list(axes)))


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Returns the value of an attribute, a list for lists, or the default where the node has none."""
    found = node.attributes.get(name)
    if found is None:
        return default
    value = found.value
    return list(value) if isinstance(value, tuple) else value


def entries(a: Arithmetic, vector: ir.Value, count: int) -> list[Number]:
    """Returns the elements of a vector, each known or computed."""
    known = known_array(vector)
    if known is not None:
        return [np.asarray(entry) for entry in known.reshape(-1)]
    return [a.emit("Gather", vector, int64(place), axis=0) for place in range(count)]
