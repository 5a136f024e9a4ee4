"""Walk the graph once and find the origin of every activation.

A node without a rule, or whose rule gives up, is *opaque*: what comes out of it may depend on anything that went in. Its
output keeps the producers that are known and carries the reason, so that nobody takes the list for complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from tgdonnx.layers import Layer, Network
from tgdonnx.tracing.origins import Origin, OriginIds, OriginTable
from tgdonnx.tracing.rule import UntraceableError
from tgdonnx.tracing.rules import RULES


@dataclass(frozen=True)
class Provenance:
    """The origins of all activations of a network.

    Attributes:
        network: what was traced.
        table: the meaning of the ids.
        ids: for each activation its array of origin ids; constants are left out.
        layer_inputs: for each layer, the origin of each of its input maps.
    """

    network: Network
    table: OriginTable = field(repr=False)
    ids: Mapping[ir.Value, OriginIds] = field(repr=False)
    layer_inputs: tuple[tuple[Origin, ...], ...] = field(repr=False)

    def of_channels(self, value: ir.Value, channels: int) -> tuple[Origin, ...]:
        """Returns the origin of each channel (axis 1) of an activation; opaque ones if it cannot be told apart so."""
        ids = self.ids.get(value, self.table.constant)
        if ids.ndim > 1:
            ids = self.table.union_along(ids, (0, *range(2, ids.ndim))).reshape(-1)
        if ids.size == 1:
            return (self.table[int(ids.flat[0])],) * channels
        if ids.size != channels:
            whole = self.table.union_along(ids.reshape(-1), (0,))
            known = self.table[int(whole[0])]
            reason = f"{value.name!r} has {ids.size} channels where {channels} are read"
            return (known | Origin(opaque=reason),) * channels
        return tuple(self.table[int(i)] for i in ids)


def trace_network(network: Network) -> Provenance:
    """Finds the origin of every activation of the main graph.

    Nodes that hold subgraphs (If, Loop, Scan) and functions of the model are opaque as a whole, with everything that
    they capture.
    """
    table = OriginTable()
    ids: dict[ir.Value, OriginIds] = {}
    for value in network.graph.inputs:
        if value.name not in network.graph.initializers:
            ids[value] = np.array(table.add(Origin(inputs=frozenset({str(value.name)}))))
    layers = {layer.node: layer for layer in network.layers}
    for node in network.graph:
        produced = _filters(layers[node], table) if node in layers else _through(node, network, ids, table)
        for output in node.outputs:
            ids[output] = produced
    provenance = Provenance(network, table, ids, ())
    inputs = tuple(_input_maps(layer, provenance) for layer in network.layers)
    return Provenance(network, table, ids, inputs)


def _filters(layer: Layer, table: OriginTable) -> OriginIds:
    if layer.weight is None:
        return np.array(table.add(Origin(opaque=f"layer {layer.name!r} cannot be read: {layer.problem}")))
    origins = [table.add(Origin(producers=frozenset({(layer.index, m)}))) for m in range(layer.filters)]
    return np.array(origins).reshape(1, -1, *(1,) * (len(layer.weight.shape) - 2))


def _input_maps(layer: Layer, provenance: Provenance) -> tuple[Origin, ...]:
    value = layer.node.inputs[0]
    return provenance.of_channels(value, layer.maps) if value is not None and layer.weight is not None else ()


def _through(node: ir.Node, network: Network, ids: Mapping[ir.Value, OriginIds], table: OriginTable) -> OriginIds:
    name = network.node_names.get(node, node.name)
    inputs = [ids.get(value, table.constant) if value is not None else table.constant for value in node.inputs]
    captured = [ids[value] for value in _captured(node) if value in ids]
    if node.domain not in ("", "ai.onnx"):
        reason = f"node {name!r} ({node.domain}.{node.op_type}) cannot be traced: its domain is not known"
    elif not captured and all(np.array_equal(i, table.constant) for i in inputs):
        return table.constant  # computed from constants alone, by whatever operator
    elif node.op_type not in RULES:
        reason = f"node {name!r} ({node.op_type}) cannot be traced: there is no rule for its operator"
    else:
        try:
            return RULES[node.op_type](node, inputs, table)
        except UntraceableError as error:
            reason = f"node {name!r} ({node.op_type}) cannot be traced: {error}"
    known = Origin(opaque=reason)
    for i in {int(i) for array in (*inputs, *captured) for i in array.flat}:
        known = known | table[i]
    return np.array(table.add(known))


def _captured(node: ir.Node) -> set[ir.Value]:
    """Returns the values that the subgraphs of a node read."""
    read: set[ir.Value] = set()
    for attribute in node.attributes.values():
        graphs = (
            [attribute.as_graph()]
            if attribute.type == ir.AttributeType.GRAPH
            else attribute.as_graphs()
            if attribute.type == ir.AttributeType.GRAPHS
            else []
        )
        for graph in graphs:
            for inner in graph.all_nodes():
                read.update(value for value in inner.inputs if value is not None)
            read.update(graph.outputs)
    return read
