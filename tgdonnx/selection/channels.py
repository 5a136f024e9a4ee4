"""Tensors with one number per channel: which node reads them, and which filters made each channel.

Biases of layers, scale and offset of norms, PRelu slopes, and stored numbers that are added to a map or multiplied with it;
beside them what batch norms subtract and divide by, which never trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.operators import CHANNEL_AXES, CHANNEL_INPUTS, ChannelRole, is_standard
from tgdonnx.layers import Parameter
from tgdonnx.tracing.origins import Origin
from tgdonnx.tracing.provenance import Provenance

# Numbers per channel that train with the filters. Running mean and variance do not, nor what is subtracted or divided by, which
# is how they look in arithmetic form.
_TRAINED: frozenset[ChannelRole] = frozenset({"scale", "offset", "slope"})
_STATISTICS: frozenset[ChannelRole] = frozenset({"mean", "variance", "divisor"})


@dataclass(frozen=True)
class ChannelTensor:
    """A node's use of a tensor that has one number per channel.

    Attributes:
        parameter: the tensor.
        node: who reads it.
        position: as which input.
        axis: where the channels are in what the node reads.
        origins: of each channel of the node's output, what it was made from.
    """

    parameter: Parameter
    node: ir.Node = field(repr=False)
    position: int
    axis: int
    origins: tuple[Origin, ...] = field(repr=False)

    def made_by(self, filters: Mapping[int, NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Returns which channels are made by nothing but some filters.

        Args:
            filters: for indices of layers bool of shape (filters,).
        """
        return np.array(
            [
                bool(origin.producers)
                and origin.opaque is None
                and all(layer in filters and filters[layer][m] for layer, m in origin.producers)
                for origin in self.origins
            ],
            bool,
        )


def channel_tensors(provenance: Provenance) -> Iterator[ChannelTensor]:
    """Yields the tensors that train with the filters whose maps they belong to: first the biases of layers."""
    for layer in provenance.layers:
        if layer.weight and layer.bias:
            own = tuple(Origin(frozenset({(layer.index, m)})) for m in range(layer.filters))
            yield ChannelTensor(layer.bias, layer.node, 2, len(layer.bias.read_shape) - 1, own)
    yield from _of_roles(provenance, _TRAINED)


def statistics(provenance: Provenance) -> Iterator[ChannelTensor]:
    """Yields the running means and variances of batch norms, and what else is subtracted from a map or divides it."""
    yield from _of_roles(provenance, _STATISTICS)


def frozen_factors(provenance: Provenance) -> Iterator[tuple[tuple[Origin, ...], NDArray[np.float64]]]:
    """Yields what maps are multiplied with, channel by channel, by constants that are computed and so are not stored.

    The root of a variance is one, where a norm is written as Sub, Div, Mul and Add.

    Yields:
        For a node the origins of its channels, and their factors, float64.
    """
    network = provenance.network
    for node in network.graph.all_nodes():
        if not is_standard(node, frozenset({"Mul", "Div"})):
            continue
        for position in (0, 1) if node.op_type == "Mul" else (1,):
            value, other = node.inputs[position], node.inputs[1 - position]
            content = network.sizes.contents.get(value) if value is not None else None
            if content is None or other not in provenance.ids or isinstance(network.parameter(value), Parameter):
                continue
            rank = len(network.sizes.shapes.get(node.outputs[0], ()))
            long = [axis for axis, length in enumerate(content.shape) if length > 1]
            if len(long) == 1 and content.ndim <= rank:
                origins = provenance.along(node.outputs[0], long[0] - content.ndim, content.size)
                factors = content.reshape(-1).astype(np.float64)
                yield origins, (1 / factors if node.op_type == "Div" else factors)


def _of_roles(provenance: Provenance, roles: frozenset[ChannelRole]) -> Iterator[ChannelTensor]:
    """Yields, node by node, the tensors with numbers per channel that are for one of these."""
    for node in provenance.network.graph.all_nodes():
        if not is_standard(node):
            continue
        for position, role in CHANNEL_INPUTS.get(node.op_type, {}).items():
            if role not in roles or position >= len(node.inputs):
                continue
            if node.op_type in CHANNEL_AXES:
                yield from _of_axis(provenance, node, position, CHANNEL_AXES[node.op_type])
            else:
                yield from _arithmetic(provenance, node, position)


def _arithmetic(provenance: Provenance, node: ir.Node, position: int) -> Iterator[ChannelTensor]:
    value, output = node.inputs[position], node.outputs[0]
    sizes = provenance.network.sizes.shapes
    if value is None or value not in sizes or output not in sizes or node.inputs[1 - position] not in provenance.ids:
        return
    shape, rank = sizes[value], len(sizes[output])
    long = [axis for axis, length in enumerate(shape) if length > 1]
    if len(long) == 1 and sizes[output][rank - len(shape) + long[0]] == shape[long[0]]:
        yield from _of_axis(provenance, node, position, long[0] - len(shape))


def _of_axis(provenance: Provenance, node: ir.Node, position: int, axis: int) -> Iterator[ChannelTensor]:
    """Yields a parameter that has one long axis, if it counts along ``axis`` of the node's output."""
    parameter = provenance.network.parameter(node.inputs[position])
    if isinstance(parameter, str):
        return
    shape = parameter.read_shape
    own_axis = int(np.argmax(shape)) if shape else 0
    if not shape or np.prod(shape) != shape[own_axis]:
        return
    origins = provenance.along(node.outputs[0], axis, shape[own_axis])
    if any(origin.producers for origin in origins):  # or it belongs to no filter
        yield ChannelTensor(parameter, node, position, own_axis, origins)
