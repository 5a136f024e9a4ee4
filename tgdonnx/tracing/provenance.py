"""Walk the graph once and find the origin of every activation.

A node without a rule, or whose rule gives up, is *opaque*: what comes out of it may depend on anything that went in. Its
output keeps the producers that are known and carries the reason, so that nobody takes the list for complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx import bounds
from tgdonnx.graphs.captured import captured_values, inner_graphs
from tgdonnx.graphs.nodes import operator_of
from tgdonnx.graphs.operators import is_standard, opset_of
from tgdonnx.layers import MATRIX_PRODUCTS, Layer, MatrixLayout, Network
from tgdonnx.tracing.origins import Origin, OriginIds, OriginTable
from tgdonnx.tracing.rule import TracingView, UntraceableError
from tgdonnx.tracing.rules import RULES


@dataclass(frozen=True)
class Provenance:
    """The origins of all activations of a network.

    Attributes:
        network: what was traced.
        table: the meaning of the ids.
        ids: for each activation its array of origin ids; constants are left out.
        layers: the layers of the network; those that are matrix products know their maps now.
        layer_inputs: for each layer, the origin of each of its input maps.
    """

    network: Network
    table: OriginTable = field(repr=False)
    ids: Mapping[ir.Value, OriginIds] = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False)
    layer_inputs: tuple[tuple[Origin, ...], ...] = field(repr=False)

    def along(self, value: ir.Value, axis: int, length: int) -> tuple[Origin, ...]:
        """Returns the origin of each index along one axis of an activation; opaque ones if it cannot be told apart so.

        Args:
            value: the activation.
            axis: counted from the front, or from the end if negative.
            length: how long it must be.
        """
        return _along(self.ids.get(value, self.table.constant), value, axis, length, self.table)


def trace_network(network: Network) -> Provenance:
    """Finds the origin of every activation.

    Branches of If are traced like the rest of the graph. Bodies of Loop and Scan are too, but what goes round in them is
    opaque.
    """
    walk = _Walk(network)
    for value in network.graph.inputs:
        if value.name not in network.graph.initializers:
            walk.ids[value] = np.array(walk.table.add(Origin(inputs=frozenset({str(value.name)}))))
    walk.graph(network.graph)
    layers, inputs = zip(*(walk.input_maps(layer) for layer in network.layers)) if network.layers else ((), ())
    return Provenance(network, walk.table, walk.ids, tuple(layers), tuple(inputs))


class _Walk:
    """One pass over the nodes."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.table = OriginTable()
        self.ids: dict[ir.Value, OriginIds] = {}
        self._places = 0
        self._layers = {layer.node: layer for layer in network.layers}

    def graph(self, graph: ir.Graph) -> None:
        for node in graph:
            self._node(node)

    def input_maps(self, layer: Layer) -> tuple[Layer, tuple[Origin, ...]]:
        """Returns the origins of the input maps of a layer; of a matrix product, finds out first which they are."""
        value = layer.node.inputs[0]
        if layer.weight is None or value is None:
            return layer, ()
        ids = self.ids.get(value, self.table.constant)
        if layer.op_type not in MATRIX_PRODUCTS:
            return layer, _along(ids, value, 1, layer.maps, self.table)
        origins = _along(ids, value, -1, layer.maps, self.table)
        opaque = next((origin.opaque for origin in origins if origin.opaque is not None), None)
        if opaque is not None:
            problem = f"the maps that it reads cannot be told apart: {opaque}"
            return replace(layer, maps=0, problem=problem), ()
        # The elements of a map lie together and have one origin. Neighbouring maps may share theirs, so runs of equal
        # origins are whole numbers of maps.
        starts = [0, *(i for i in range(1, len(origins)) if origins[i] != origins[i - 1]), len(origins)]
        length = math.gcd(*(end - start for start, end in zip(starts, starts[1:])))
        assert isinstance(layer.layout, MatrixLayout)
        layout = replace(layer.layout, length=length)
        return replace(layer, layout=layout, maps=len(origins) // length), origins[::length]

    def _node(self, node: ir.Node) -> None:
        if all(output in self.network.sizes.contents for output in node.outputs if output.name):
            return  # constants, and what is computed from shapes
        subgraphs = inner_graphs(node)
        if node.op_type != "If":
            for subgraph in subgraphs:
                for value in subgraph.inputs:
                    reason = f"it goes round in node {self._name(node)!r} ({node.op_type})"
                    self.ids[value] = np.array(self.table.add(Origin(opaque=reason)))
        for subgraph in subgraphs:
            self.graph(subgraph)
        try:
            outputs = self._outputs(node, subgraphs)
        except UntraceableError as error:
            opaque = self._opaque(node, f"node {self._name(node)!r} ({operator_of(node)}) cannot be traced: {error}")
            outputs = [opaque] * len(node.outputs)
        size = sum(ids.size for ids in outputs)
        if size > bounds.ORIGINS_PER_VALUE or self._places + size > bounds.ORIGINS:
            reason = (
                f"node {self._name(node)!r} ({operator_of(node)}) cannot be traced: its {size:,} places would have to be told "
                f"apart; at most {bounds.ORIGINS_PER_VALUE:,} are, and {bounds.ORIGINS:,} of all nodes together"
            )
            outputs = [self._opaque(node, reason)] * len(node.outputs)
        for output, ids in zip(node.outputs, outputs):
            self._places += ids.size
            self.ids[output] = ids

    def _outputs(self, node: ir.Node, subgraphs: list[ir.Graph]) -> list[OriginIds]:
        constant, inputs = self.table.constant, [self._of(value) for value in node.inputs]
        if node in self.network.sizes.refused:
            raise UntraceableError(f"it cannot be as it is ({self.network.sizes.refused[node]})")
        if node in self._layers:
            layer = self._layers[node]
            if layer.weight is None:
                raise UntraceableError(str(layer.problem))
            if any(not np.array_equal(ids, constant) for ids in inputs[1:]):
                raise UntraceableError("its bias is computed by layers")
            return [self._filters(layer)]
        if not subgraphs and all(np.array_equal(ids, constant) for ids in inputs):
            return [constant] * len(node.outputs)  # computed from constants alone, by whatever operator
        if not is_standard(node):
            raise UntraceableError("its domain is not known")
        if node.op_type == "If":
            return self._if(node, subgraphs)
        if node.op_type not in RULES:
            raise UntraceableError("there is no rule for its operator")
        opset = opset_of(self.network.graph)
        result = RULES[node.op_type](TracingView(node, opset, inputs, self.network.sizes, self.table))
        return result if isinstance(result, list) else [result] * len(node.outputs)

    def _if(self, node: ir.Node, branches: list[ir.Graph]) -> list[OriginIds]:
        condition = node.inputs[0]
        known = self.network.sizes.contents.get(condition) if condition is not None else None
        if known is not None:
            name = "then_branch" if known.all() else "else_branch"
            branches = [node.attributes[name].as_graph()]
        elif not np.array_equal(self._of(condition), self.table.constant):
            origin = self.table[int(self._of(condition).flat[0])]
            if origin.producers or origin.opaque:
                raise UntraceableError("its condition is computed by layers")
        results = []
        for index in range(len(node.outputs)):
            arrays = [self._of(branch.outputs[index]) for branch in branches]
            try:
                results.append(self.table.union(*arrays))
            except ValueError:
                raise UntraceableError("its branches give different shapes") from None
        return results

    def _filters(self, layer: Layer) -> OriginIds:
        origins = np.array([self.table.add(Origin(frozenset({(layer.index, m)}))) for m in range(layer.filters)])
        if layer.op_type not in MATRIX_PRODUCTS:
            assert layer.weight is not None
            return origins.reshape(1, -1, *(1,) * (len(layer.weight.read_shape) - 2))
        shape = self.network.sizes.shapes.get(layer.node.outputs[0])
        if shape is None:
            raise UntraceableError("the rank of its output is not known")
        return origins.reshape(*(1,) * (len(shape) - 1), -1)

    def _of(self, value: Optional[ir.Value]) -> OriginIds:
        return self.ids.get(value, self.table.constant) if value is not None else self.table.constant

    def _opaque(self, node: ir.Node, reason: str) -> OriginIds:
        known = Origin(opaque=reason)
        read = [
            *node.inputs,
            *captured_values(node),
            *(value for graph in inner_graphs(node) for value in graph.outputs),
        ]
        for i in {int(i) for value in read for i in self._of(value).flat}:
            known = known | self.table[i]
        return np.array(self.table.add(known))

    def _name(self, node: ir.Node) -> str:
        return self.network.node_names.get(node, str(node.name))


def _along(ids: OriginIds, value: ir.Value, axis: int, length: int, table: OriginTable) -> tuple[Origin, ...]:
    if ids.ndim:
        axis %= ids.ndim
        ids = table.union_along(ids, tuple(a for a in range(ids.ndim) if a != axis)).reshape(-1)
    if ids.size == 1:
        return (table[int(ids.flat[0])],) * length
    if ids.size != length:
        known = table[int(table.union_along(ids, (0,))[0])]
        reason = f"{value.name!r} has {ids.size} maps where {length} are read"
        return (known | Origin(opaque=reason),) * length
    return tuple(table[int(i)] for i in ids)
