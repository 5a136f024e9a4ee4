"""Layers: the nodes with filters, and where their weight and bias are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Optional, Union

import onnx_ir as ir

from tgdonnx import bounds
from tgdonnx.graphs.operators import (
    CONVOLUTIONS,
    MATRIX_PRODUCTS,
    is_standard,
)
from tgdonnx.layers.layouts import ConvLayout, ConvTransposeLayout, Layout, MatrixLayout
from tgdonnx.layers.parameters import Parameter

FindParameter = Callable[[Optional[ir.Value]], Union[Parameter, str]]


@dataclass(frozen=True)
class Layer:
    """A node with filters: Conv, ConvTranspose, or a Gemm or MatMul with a stored matrix.

    Attributes:
        index: its place in topological order among the layers.
        node: the node.
        name: the node's name, or its first output's when it has none.
        weight: its weight; None when it cannot be had.
        bias: its bias, if it has one that is stored in the file.
        layout: where in the weight filters and kernels are. How many elements each map of a Gemm or MatMul has is known
            after tracing; until then it is one.
        filters: the number of filters, which is the number of output maps.
        maps: the number of input maps, over all groups.
        problem: why its input maps cannot be scored, or None. Its filters can be retrained all the same if it has a weight.
    """

    index: int
    node: ir.Node = field(repr=False)
    name: str
    weight: Optional[Parameter]
    bias: Optional[Parameter]
    layout: Layout
    filters: int
    maps: int
    problem: Optional[str]

    @property
    def op_type(self) -> str:
        """Its operator."""
        return self.node.op_type

    @property
    def group(self) -> int:
        """The number of groups."""
        return self.layout.group


def find_layer(index: int, node: ir.Node, name: str, find: FindParameter) -> Optional[Layer]:
    """Returns the layer that a node is; None if it is none.

    Args:
        index: its place among the layers, if it is one.
        node: the node.
        name: of the node.
        find: finds the stored tensor behind a value, or says why there is none.
    """
    if not is_standard(node):
        return None
    if node.op_type in CONVOLUTIONS:
        return _convolution(index, node, name, find)
    if node.op_type in MATRIX_PRODUCTS:
        return _matrix_product(index, node, name, find)
    return None


def _convolution(index: int, node: ir.Node, name: str, find: FindParameter) -> Layer:
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    weight = find(node.inputs[1] if len(node.inputs) > 1 else None)
    if isinstance(weight, str):
        problem = f"its weight is not stored in the file: {weight}"
        return Layer(index, node, name, None, None, ConvLayout(0, group), 0, 0, problem)
    shape = weight.read_shape
    if len(shape) < 3 or group < 1 or shape[0] % group or 0 in shape:
        problem = f"its weight {weight.name!r} has shape {list(shape)}, which does not fit group = {group}"
        return Layer(index, node, name, None, None, ConvLayout(0, group), 0, 0, problem)
    if max(shape[0], shape[1] * group) > bounds.MAPS:
        problem = (
            f"its weight {weight.name!r} has shape {list(shape)}; expected at most {bounds.MAPS:,} filters and maps"
        )
        return Layer(index, node, name, None, None, ConvLayout(0, group), 0, 0, problem)
    layout: Layout = ConvLayout(len(shape), group)
    filters, maps = shape[0], shape[1] * group
    if node.op_type == "ConvTranspose":
        layout = ConvTransposeLayout(shape, group)
        filters, maps = maps, filters
    bias = _bias(node, filters, find)
    return Layer(index, node, name, weight, bias, layout, filters, maps, None)


def _matrix_product(index: int, node: ir.Node, name: str, find: FindParameter) -> Optional[Layer]:
    """A product of two activations is no layer, nor is one whose stored matrix comes first."""
    weight = find(node.inputs[1])
    if isinstance(weight, str) or len(weight.read_shape) != 2 or 0 in weight.read_shape:
        return None
    if max(weight.read_shape) > bounds.MAPS:
        return None
    if not isinstance(find(node.inputs[0]), str):
        return None  # constants on both sides
    transposed = {
        which: bool(node.attributes[which].as_int()) for which in ("transA", "transB") if which in node.attributes
    }
    if transposed.get("transA"):
        return None
    filters_first = transposed.get("transB", False)
    filters, length = weight.read_shape if filters_first else weight.read_shape[::-1]
    layout = MatrixLayout(filters_first, 1)
    bias = _bias(node, filters, find)
    return Layer(index, node, name, weight, bias, layout, filters, length, None)


def _bias(node: ir.Node, filters: int, find: FindParameter) -> Optional[Parameter]:
    bias = find(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else ""
    fits = isinstance(bias, Parameter) and bias.read_shape in ((filters,), (1, filters))
    return bias if isinstance(bias, Parameter) and fits else None
