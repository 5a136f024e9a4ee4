"""Which layers get a side path, and of which shape.

    Conv            y = conv(x, W0) + conv1x1(conv(x, down), up)        down (R G, C / G, *kernel), up (M, R, 1, ...)
    ConvTranspose   y = convT(x, W0) + conv1x1(convT(x, down), up)      down (C, R, *kernel),       up (M, R, 1, ...)
    Gemm, MatMul    y = x W0 + (x down) up                              down (K, R),                up (R, M)

with the attributes of the layer: strides, pads, dilations and group. So up(down(x)) is what the layer would compute of another
weight of rank R per group, and R is never more than such a weight can have: min(R, M / G, C / G * kernel).

The sum is taken behind what runtimes fold into the layer, a BatchNormalization or a constant per map that is added, if that
alone reads it: else they would compute the vendor's part in another way than they do without a side path, and its last bits
would differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.operators import is_standard
from tgdonnx.layers import MATRIX_PRODUCTS, Layer, Network
from tgdonnx.layers.names import SIDE_PATH_PREFIX
from tgdonnx.layers.steps import Converted

_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class SidePath:
    """A side path of a layer.

    Attributes:
        layer: the layer that it goes beside.
        name: what the names of all that is added begin with; it tells the round and the layer.
        sum_of: the vendor's value that it is added to, by its name in his file: the output of the layer, or of what runtimes
            fold into it.
        norm: the BatchNormalization between the layer and that, if there is one.
        rank: of the change that it makes of the layer's weight, per group.
        dtype: of its weights.
    """

    layer: Layer = field(repr=False)
    name: str
    sum_of: str
    norm: Optional[ir.Node] = field(repr=False)
    rank: int
    dtype: ir.DataType

    @property
    def down(self) -> str:
        """The name of the weight that reads what the layer reads."""
        return f"{self.name}.down"

    @property
    def up(self) -> str:
        """The name of the weight behind it, which starts at 0."""
        return f"{self.name}.up"

    @property
    def is_matrix(self) -> bool:
        """Whether the layer is a product of matrices."""
        return self.layer.op_type in MATRIX_PRODUCTS

    @property
    def down_shape(self) -> tuple[int, ...]:
        """The dimensions of the first weight."""
        read = _shape(self.layer)
        if self.is_matrix:
            return self.layer.maps, self.rank
        if self.layer.op_type == "ConvTranspose":
            return read[0], self.rank, *read[2:]
        return self.rank * self.layer.group, *read[1:]

    @property
    def up_shape(self) -> tuple[int, ...]:
        """The dimensions of the second weight."""
        if self.is_matrix:
            return self.rank, self.layer.filters
        return self.layer.filters, self.rank, *(1 for _ in _shape(self.layer)[2:])

    @property
    def fan_in(self) -> int:
        """How many numbers a map of the first weight is computed of."""
        return _fan_in(self.layer)

    @property
    def weights(self) -> int:
        """How many numbers it adds."""
        return math.prod(self.down_shape) + math.prod(self.up_shape)


def prefix_of(number: int) -> str:
    """Returns what the names of all that a round adds begin with."""
    return f"{SIDE_PATH_PREFIX}{number}."


def plan_side_paths(
    network: Network, selected: Sequence[NDArray[np.bool_]], rank: int, number: int
) -> tuple[tuple[SidePath, ...], Mapping[str, str]]:
    """Returns the side paths of a network, and for the names of the other selected layers why they have none.

    Args:
        network: the vendor's model.
        selected: for each layer bool of shape (filters,); a layer of which any is True is to have one.
        rank: as asked for, at least 1.
        number: of the round.
    """
    made_by = {str(node.output[0]): node for node in network.file.proto.graph.node if node.output}
    paths: list[SidePath] = []
    left_out: dict[str, str] = {}
    for layer, rows in zip(network.layers, selected):
        if layer.weight is not None and not rows.any():
            continue
        reason = _why_none(layer, network, made_by)
        if reason is not None:
            left_out[layer.name] = reason
            continue
        end, norm = _folded(layer, network)
        paths.append(
            SidePath(
                layer,
                f"{prefix_of(number)}{layer.name}",
                str(end.name),
                norm,
                min(rank, layer.filters // layer.group, _fan_in(layer)),
                _read_type(layer),
            )
        )
    return tuple(paths), left_out


def _why_none(layer: Layer, network: Network, made_by: Mapping[str, object]) -> Optional[str]:
    if layer.weight is None:
        return layer.problem
    if layer.weight.name.startswith(SIDE_PATH_PREFIX):
        return "it is part of a side path of an earlier round"
    if layer.weight.quantization is not None:
        return "its weight is stored as integers, and a sum in real numbers would change how runtimes compute it"
    if layer.node.graph is not network.graph or str(layer.node.outputs[0].name) not in made_by:
        return "it is inside a branch, a loop or a function"
    if _read_type(layer) not in _TYPES:
        return f"it computes in {_read_type(layer).name}"
    return None


def _folded(layer: Layer, network: Network) -> tuple[ir.Value, Optional[ir.Node]]:
    """Returns the value that the side path is added to, and the norm before it."""
    value, norm = layer.node.outputs[0], None
    while True:
        readers = list(value.uses())
        if len(readers) != 1 or value.is_graph_output():
            return value, norm
        ((reader, position),) = readers
        outputs = [output for output in reader.outputs if output.name]
        if reader.graph is not network.graph or not is_standard(reader) or len(outputs) != 1:
            return value, norm
        if reader.op_type == "BatchNormalization" and position == 0 and norm is None and not _trains(reader):
            norm = reader
        elif not (reader.op_type == "Add" and _is_per_map(reader.inputs[1 - position], layer)):
            return value, norm
        value = reader.outputs[0]


def _trains(norm: ir.Node) -> bool:
    return norm.attributes.get_int("training_mode", 0) != 0


def _is_per_map(value: Optional[ir.Value], layer: Layer) -> bool:
    """Whether a constant has one number for each map of a layer's output, and adding it changes no shape."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None:
        return False
    shape = [size for size in tensor.shape if isinstance(size, int)]
    if layer.op_type in MATRIX_PRODUCTS:
        return shape == [layer.filters]
    spatial = [1] * (len(_shape(layer)) - 2)
    return shape in ([layer.filters, *spatial], [1, layer.filters, *spatial])


def _shape(layer: Layer) -> tuple[int, ...]:
    assert layer.weight is not None
    return layer.weight.read_shape


def _fan_in(layer: Layer) -> int:
    if layer.op_type in MATRIX_PRODUCTS:
        return layer.maps
    return layer.maps // layer.group * math.prod(_shape(layer)[2:])


def _read_type(layer: Layer) -> ir.DataType:
    """Returns the type of what the layer reads."""
    assert layer.weight is not None
    converted = [step.dtype for step in layer.weight.steps if isinstance(step, Converted)]
    return converted[-1] if converted else layer.weight.dtype
