"""Steps between the tensor that is stored and what a node reads: what each does to elements, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.operators import QUANTIZERS, RESHAPING, is_standard
from tgdonnx.layers.quantization import Quantization, find_quantization
from tgdonnx.layers.sizes import Sizes

Array = NDArray[Any]


class Step(Protocol):
    """One node between the stored tensor and its reader."""

    def forward(self, array: Array) -> Array:
        """Returns what the node makes of the tensor."""

    def rearrange(self, array: Array) -> Array:
        """Moves elements as the node does, but leaves their values alone."""

    def restore(self, array: Array) -> Array:
        """Undoes `rearrange`."""


@dataclass(frozen=True)
class Transposed:
    """Transpose."""

    permutation: tuple[int, ...]

    def forward(self, array: Array) -> Array:
        """Returns the transposed array."""
        return np.transpose(array, self.permutation)

    rearrange = forward

    def restore(self, array: Array) -> Array:
        """Returns the array with its axes put back."""
        return np.transpose(array, np.argsort(self.permutation).tolist())


@dataclass(frozen=True)
class Reshaped:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the same order."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def forward(self, array: Array) -> Array:
        """Returns the array in its new shape."""
        return array.reshape(self.after)

    rearrange = forward

    def restore(self, array: Array) -> Array:
        """Returns the array in its old shape."""
        return array.reshape(self.before)


class _InPlace:
    """A node that changes values, and moves no element."""

    def rearrange(self, array: Array) -> Array:
        """Returns the array as it is."""
        return array

    restore = rearrange


@dataclass(frozen=True)
class Converted(_InPlace):
    """Cast: other type, same elements."""

    dtype: ir.DataType

    def forward(self, array: Array) -> Array:
        """Returns the array in the new type."""
        return array.astype(self.dtype.numpy())


@dataclass(frozen=True)
class Quantized(_InPlace):
    """QuantizeLinear, in front of a DequantizeLinear: rounds the numbers to a grid."""

    quantization: Quantization

    def forward(self, array: Array) -> Array:
        """Returns the integers."""
        return self.quantization.quantize(array)


@dataclass(frozen=True)
class Dequantized(_InPlace):
    """DequantizeLinear."""

    quantization: Quantization
    dtype: ir.DataType = ir.DataType.FLOAT

    def forward(self, array: Array) -> Array:
        """Returns the real numbers that the integers stand for, float32."""
        return self.quantization.dequantize(array)


def find_step(node: ir.Node, sizes: Sizes) -> Union[Step, str, None]:
    """Returns what a node does to a parameter; None for nothing; a string, to be read after its name, if it may not."""
    if not is_standard(node) or not node.inputs or node.inputs[0] is None:
        return ""
    if node.op_type == "Identity":
        return None
    before, after = sizes.shapes.get(node.inputs[0]), sizes.shapes.get(node.outputs[0])
    if node.op_type == "Transpose" or node.op_type in RESHAPING:
        if before is None or after is None:
            return ", to an unknown shape"
        if node.op_type != "Transpose":
            return Reshaped(before, after)
        permutation = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(before))[::-1]
        if sorted(permutation) != [*range(len(before))]:
            return f", by the permutation {list(permutation)} of {len(before)} axes"
        return Transposed(tuple(permutation))
    if node.op_type == "Cast":
        dtype = ir.DataType(node.attributes["to"].as_int())
        return Converted(dtype) if dtype.is_floating_point() else f", to {dtype.name}"
    if node.op_type in QUANTIZERS:
        quantization = find_quantization(node, sizes.contents.get)
        if isinstance(quantization, str):
            return f", {quantization}"
        if node.op_type == "DequantizeLinear":
            return Dequantized(quantization)
        readers = {reader.op_type for reader, _ in node.outputs[0].uses()}
        return Quantized(quantization) if readers == {"DequantizeLinear"} else ""
    return ""
