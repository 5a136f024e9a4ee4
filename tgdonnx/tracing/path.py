"""The way of a map: the nodes between a layer's input and the filters that produced one map of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import onnx_ir as ir

from tgdonnx.layers import Layer
from tgdonnx.tracing.origins import Origin
from tgdonnx.tracing.provenance import Provenance


@dataclass(frozen=True)
class Step:
    """A node on the way, and the ways on from its inputs.

    Attributes:
        node: its name; of a graph input, the input's.
        op_type: its operator; empty for a graph input.
        filters: of a layer, the filters that have a part in the map; a layer ends the way.
        sources: where its inputs come from, those that have a part. Empty as well where the node was shown before.
    """

    node: str
    op_type: str
    filters: tuple[int, ...]
    sources: tuple[Step, ...]


def find_path(provenance: Provenance, layer: Layer, index: int) -> tuple[Step, ...]:
    """Returns the way of input map ``index`` of a layer, from its end.

    Each node is followed up where it is met first, so the answer grows with the graph, not with the number of ways.
    """
    origin = provenance.layer_inputs[layer.index][index]
    return _sources(provenance, layer.node.inputs[:1], origin, set())


def _sources(
    provenance: Provenance, values: Sequence[Optional[ir.Value]], origin: Origin, seen: set[ir.Node]
) -> tuple[Step, ...]:
    steps = []
    for value in values:
        if value is not None and _has_part(provenance, value, origin):
            steps.append(_step(provenance, value, origin, seen))
    return tuple(steps)


def _step(provenance: Provenance, value: ir.Value, origin: Origin, seen: set[ir.Node]) -> Step:
    node = value.producer()
    if node is None:
        return Step(str(value.name), "", (), ())
    name = provenance.network.node_names.get(node, str(node.name))
    layer = next((layer for layer in provenance.layers if layer.node is node), None)
    if layer is not None:
        filters = tuple(sorted(m for index, m in origin.producers if index == layer.index))
        return Step(name, node.op_type, filters, ())
    if node in seen:
        return Step(name, node.op_type, (), ())
    seen.add(node)
    return Step(name, node.op_type, (), _sources(provenance, node.inputs, origin, seen))


def _has_part(provenance: Provenance, value: ir.Value, origin: Origin) -> bool:
    ids = provenance.ids.get(value)
    if ids is None:
        return False
    for i in {int(i) for i in ids.flat}:
        own = provenance.table[i]
        if own.producers & origin.producers or own.inputs & origin.inputs or (own.opaque and origin.opaque):
            return True
    return False
