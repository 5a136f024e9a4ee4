"""Linear quantisation: what QuantizeLinear and DequantizeLinear compute, per tensor or per channel.

    q = saturate(round(x / scale) + zero_point)        x = (q - zero_point) * scale

Rounding is to the nearest, ties to even, and happens before the zero point is added. All of it is float32 arithmetic, in
the order in which the operators do it, so that what is computed here is what a runtime computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]

TRAINABLE_INTEGERS = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32}
)
"""What training handles: no integers of less than a byte, and no 8-bit floats."""


INTEGER_REMEDY = (
    "ask for the model as it was before quantisation, or quantised with QuantizeLinear and DequantizeLinear around Conv"
)


@dataclass(frozen=True, eq=False)
class Quantization:
    """A grid of real numbers.

    Attributes:
        scale: positive; a scalar, or one number per channel.
        zero_point: the integer that stands for 0; shaped like ``scale``.
        axis: which axis counts channels; without meaning for a scalar.
        dtype: of the integers.
    """

    scale: Array = field(repr=False)
    zero_point: Array = field(repr=False)
    axis: int
    dtype: ir.DataType

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest integer."""
        limits = np.iinfo(self.dtype.numpy())
        return int(limits.min), int(limits.max)

    def same_grid(self, other: Quantization) -> bool:
        """Whether both quantise alike."""
        return (
            self.dtype == other.dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.scale.size == 1 or self.axis == other.axis)
        )

    def aligned(self, array: Array, rank: int) -> Array:
        """Returns ``scale`` or ``zero_point`` in a shape that broadcasts against an array of a rank."""
        if array.size == 1:
            return array.reshape(())
        shape = [1] * rank
        shape[self.axis] = -1
        return array.reshape(shape)

    def dequantize(self, integers: Array) -> Array:
        """Returns the real numbers that integers stand for, float32."""
        offset = self.aligned(self.zero_point.astype(np.int32), integers.ndim)
        real: Array = (integers.astype(np.int32) - offset).astype(np.float32)
        return real * self.aligned(self.scale.astype(np.float32), integers.ndim)

    def quantize(self, real: Array) -> Array:
        """Returns the integers that stand for real numbers, which are finite."""
        rounded = np.rint(real.astype(np.float32) / self.aligned(self.scale.astype(np.float32), real.ndim))
        offset = self.aligned(self.zero_point.astype(np.float64), real.ndim)
        return np.clip(rounded.astype(np.float64) + offset, *self.limits).astype(self.dtype.numpy())


def find_quantization(
    node: ir.Node, content: Callable[[ir.Value], Optional[Array]], dtype: Optional[ir.DataType] = None
) -> Union[Quantization, str]:
    """Returns the grid of a QuantizeLinear or DequantizeLinear, or says why it has none that is fixed.

    Args:
        node: the node.
        content: gives the elements of a tensor, or None for one that depends on an input of the model.
        dtype: of the integers, where the node no longer says it.
    """
    if "block_size" in node.attributes and node.attributes["block_size"].as_int():
        return "in blocks"
    scale, *rest = [content(value) if value is not None else None for value in node.inputs[1:3]]
    given = len(node.inputs) > 2 and node.inputs[2] is not None
    if scale is None or (given and rest[0] is None):
        return "whose scale or zero point is not constant"
    dtype = dtype or _quantized_type(node)
    if not dtype.is_integer():
        return f"of type {dtype.name}"
    zero_point = rest[0] if given and rest[0] is not None else np.zeros(scale.shape, np.int32)
    if scale.ndim > 1 or zero_point.shape not in ((), (1,), scale.shape) or 0 in (scale.size, zero_point.size):
        return f"whose scale and zero point are of shapes {list(scale.shape)} and {list(zero_point.shape)}"
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    return Quantization(scale, zero_point, axis, dtype)


def _quantized_type(node: ir.Node) -> ir.DataType:
    """Returns the type that a node writes, or reads."""
    if len(node.inputs) > 2 and node.inputs[2] is not None and node.inputs[2].dtype is not None:
        return node.inputs[2].dtype
    if node.op_type == "QuantizeLinear":
        declared = node.attributes["output_dtype"].as_int() if "output_dtype" in node.attributes else 0
        return ir.DataType(declared or ir.DataType.UINT8)
    assert node.inputs[0] is not None
    return node.inputs[0].dtype or ir.DataType.UINT8
