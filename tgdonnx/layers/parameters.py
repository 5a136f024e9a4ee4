"""Parameters: from the tensor that is stored in the vendor's file to what a node reads, and back.

A node seldom cares how its weight is stored, but writing it back does. So a parameter keeps the steps between the two:
Identity, Cast (float16 weights), Transpose (weights stored HWIO), Reshape and its kin, DequantizeLinear (int8 weights).
A retrain mask goes the same way backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.layers.quantization import Quantization
from tgdonnx.layers.sizes import Sizes
from tgdonnx.layers.steps import Converted, Dequantized, Reshaped, Step, find_step

Array = NDArray[Any]


@dataclass(frozen=True)
class Parameter:
    """A tensor of the vendor's file that a node computes with.

    Attributes:
        name: of the initializer, or of the output of the Constant node.
        path: where its TensorProto lies in the file.
        value: the value in the graph that carries the stored tensor.
        tensor: its elements as stored; read from disk when asked for.
        steps: what lies between the stored tensor and the node that reads it.
    """

    name: str
    path: wire.FieldPath
    value: ir.Value = field(repr=False)
    tensor: ir.TensorProtocol = field(repr=False)
    steps: tuple[Step, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions of the stored tensor."""
        return _shape(self.tensor)

    @property
    def dtype(self) -> ir.DataType:
        """The element type of the stored tensor."""
        return self.tensor.dtype

    @property
    def itemsize(self) -> int:
        """Bytes per stored element."""
        return int(self.dtype.itemsize)

    @property
    def read_shape(self) -> tuple[int, ...]:
        """The dimensions of what the node reads."""
        return self.rearrange(np.broadcast_to(np.zeros((), bool), self.shape)).shape

    def numpy(self) -> Array:
        """Returns the stored elements, read-only.

        Raises:
            ModelFileError: the data is not there, or not as much as the shape says.
        """
        try:
            if isinstance(self.tensor, ir.ExternalTensor):
                # A copy, and the file is closed: of a model larger than memory only one tensor is held at a time.
                view: Array = np.array(self.tensor.numpy())
                self.tensor.release()
            else:
                view = self.tensor.numpy().view()
            if view.shape != self.shape:
                raise ValueError(f"it has shape {list(view.shape)}, expected {list(self.shape)}")
        except (OSError, EOFError, ValueError) as error:
            raise ModelFileError(
                f"the data of {self.name!r} cannot be read: {error}", remedy="get the file again"
            ) from error
        view.flags.writeable = False
        return view

    def read(self) -> Array:
        """Returns the elements that the node reads."""
        array = self.numpy()
        for step in self.steps:
            array = step.forward(array)
        return array

    @property
    def quantization(self) -> Optional[Quantization]:
        """The grid that stored integers count; None when what is stored are no integers behind a DequantizeLinear."""
        step = next((step for step in self.steps if isinstance(step, Dequantized)), None)
        return replace(step.quantization, dtype=self.dtype) if step and self.dtype.is_integer() else None

    def dequantized(self, integers: Optional[Array] = None) -> Array:
        """Returns the numbers that integers arranged as stored stand for, float32; those that are stored if None."""
        before, grid = self._read_by_dequantizer()
        stored = self.numpy() if integers is None else integers
        return before.restore(grid.dequantize(before.rearrange(stored)))

    def quantized(self, real: Array) -> Array:
        """Returns the integers to store for finite numbers that are arranged as stored."""
        before, grid = self._read_by_dequantizer()
        return before.restore(grid.quantize(before.rearrange(real)))

    def same_numbers(self, other: Parameter) -> bool:
        """Whether the same stored integers stand for the same numbers, whoever reads them."""
        (before, grid), (others, other_grid) = self._read_by_dequantizer(), other._read_by_dequantizer()
        return before.steps == others.steps and grid.same_grid(other_grid)

    def _read_by_dequantizer(self) -> tuple[Parameter, Quantization]:
        """Returns the parameter as its DequantizeLinear reads it, and the grid of that."""
        grid = self.quantization
        assert grid is not None
        index = next(index for index, step in enumerate(self.steps) if isinstance(step, Dequantized))
        return replace(self, steps=self.steps[:index]), grid

    def rearrange(self, array: Array) -> Array:
        """Moves the elements of an array of the stored shape to where the node reads them; their values stay."""
        for step in self.steps:
            array = step.rearrange(array)
        return array

    def restore(self, array: Array) -> Array:
        """Undoes `rearrange`. An array that broadcasts against what the node reads gives one that broadcasts likewise.

        Args:
            array: of the rank that the node reads, each dimension as there or 1.
        """
        for index in reversed(range(len(self.steps))):
            step = self.steps[index]
            if isinstance(step, Reshaped) and array.shape != step.after:
                array = np.broadcast_to(array, step.after)
            array = step.restore(array)
        return array


def find_parameter(
    value: Optional[ir.Value],
    places: Mapping[ir.Value, wire.FieldPath],
    sizes: Sizes,
    name_of: Callable[[ir.Node], str],
) -> Union[Parameter, str]:
    """Finds the stored tensor behind a value, or says why there is none.

    Args:
        value: what a node reads.
        places: where tensors lie in the file.
        sizes: the sizes of the graph.
        name_of: gives the name of a node.
    """
    steps: list[Step] = []
    while value is not None:
        producer = value.producer()
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            if value not in places:
                return f"{value.name!r} is a constant inside a function"
            dtype = next((step.dtype for step in steps if isinstance(step, (Converted, Dequantized))), tensor.dtype)
            if not (dtype.is_floating_point() and (tensor.dtype.is_floating_point() or tensor.dtype.is_integer())):
                return f"{value.name!r} is of type {tensor.dtype.name}"
            return Parameter(str(value.name), places[value], value, tensor, tuple(reversed(steps)))
        if producer is None:
            return f"{value.name!r} is an input of the graph"
        step = find_step(producer, sizes)
        if isinstance(step, str):
            return f"{value.name!r} is computed by node {name_of(producer)!r} ({producer.op_type}){step}"
        if step is not None:
            steps.append(step)
        value = producer.inputs[0]
    return "it is missing"


def _shape(tensor: ir.TensorProtocol) -> tuple[int, ...]:
    return tuple(dim for dim in tensor.shape if isinstance(dim, int))  # a tensor has no other
