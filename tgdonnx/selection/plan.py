"""From selected filters to retrain masks: one for every tensor that belongs to filters.

A filter's bias, the scale and offset of a norm over its map, a PRelu slope and a factor or summand per channel share its
mask (rule 6). A per-channel parameter of a map that several filters made trains only if all of them do. A tensor that several
nodes share trains only where all agree, and one that is used for anything else stays frozen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.layers import Layer, Network, Parameter
from tgdonnx.selection.channels import ChannelTensor, channel_tensors
from tgdonnx.selection.strategy import Selection
from tgdonnx.tracing.provenance import Provenance

PlanMode = Literal["paper", "readers"]
PLAN_MODES: tuple[PlanMode, ...] = ("paper", "readers")
# regrow begins with other values too: `tgdonnx.regrowing`; adapter lets nothing train that is there: `tgdonnx.adapting`
Mode = Literal["paper", "readers", "regrow", "adapter"]
MODES: tuple[Mode, ...] = (*PLAN_MODES, "regrow", "adapter")


@dataclass(frozen=True)
class RetrainMask:
    """What of one tensor trains.

    Attributes:
        parameter: the tensor, in the vendor's file.
        node: the node that it belongs to (the first, if several share it).
        filters: bool of shape (filters,): True for filters that train whole.
        maps: bool of shape (maps,): True for input maps whose kernels train in every filter. Of length 0 in mode
            ``paper``, and for tensors that read no maps.
        values: float32, 0 or 1, of a shape that broadcasts against the stored tensor.
        note: why filters that were selected stay frozen, or None.
    """

    parameter: Parameter
    node: str
    filters: NDArray[np.bool_] = field(repr=False)
    maps: NDArray[np.bool_] = field(repr=False)
    values: NDArray[np.float32] = field(repr=False)
    note: Optional[str]

    @property
    def trained_elements(self) -> int:
        """The number of elements of the tensor that train."""
        return round(float(self.values.mean(dtype=np.float64)) * int(np.prod(self.parameter.shape)))


@dataclass(frozen=True)
class _Claim:
    """A node's wish to train filters (or to release maps) of a tensor.

    Attributes:
        parameter: the tensor.
        node: who reads it.
        position: as which input.
        rows: bool: of the filters, or of the maps, those that may train.
        axis: of a tensor with one number per filter, where the filters are in what the node reads.
    """

    parameter: Parameter
    node: ir.Node
    position: int
    rows: NDArray[np.bool_]
    axis: int = 0


@dataclass(frozen=True)
class _Agreement:
    """What of a tensor all its readers let train, and why not more."""

    claim: _Claim
    rows: NDArray[np.bool_]
    note: Optional[str]


def plan_masks(provenance: Provenance, selection: Selection, mode: PlanMode) -> tuple[RetrainMask, ...]:
    """Returns the retrain mask of every retrainable tensor, also of those in which nothing trains.

    Args:
        provenance: the traced network.
        selection: which of its filters to retrain.
        mode: ``paper`` for masks per filter, ``readers`` for masks per kernel, by which the kernels that read a
            meaningless map train too.
    """
    layers = [layer for layer in provenance.layers if layer.weight]
    network = provenance.network
    weights = _agree([_weight_claim(layer, selection.filters[layer.index]) for layer in layers], network)
    released = _agree([_weight_claim(layer, selection.meaningless[layer.index]) for layer in layers], network)
    rows = {layer.index: weights[layer.weight.name].rows for layer in layers if layer.weight}
    channels = _agree([_channel_claim(tensor, rows) for tensor in channel_tensors(provenance)], network)
    masks = {}
    for layer in layers:
        assert layer.weight is not None
        if layer.weight.name not in masks:
            agreed = weights[layer.weight.name]
            maps = released[layer.weight.name].rows if mode == "readers" else np.zeros(0, bool)
            values = _weight_mask(layer, agreed.rows, maps)
            mask = RetrainMask(layer.weight, layer.name, agreed.rows, maps, values, agreed.note)
            masks[layer.weight.name] = mask
    for name, agreed in channels.items():
        if name not in masks:
            masks[name] = _channel_mask(agreed, network)
    return tuple(masks.values())


def _weight_claim(layer: Layer, rows: NDArray[np.bool_]) -> _Claim:
    assert layer.weight is not None
    return _Claim(layer.weight, layer.node, 1, rows)


def _weight_mask(layer: Layer, filters: NDArray[np.bool_], maps: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns M[m, c] = 1 if filter m trains or the map that it reads as its c-th is released, as the tensor is stored."""
    assert layer.weight is not None
    trains = filters.reshape(-1, 1)
    if maps.size:
        per_group = maps.reshape(layer.group, -1)
        trains = trains | np.repeat(per_group, layer.filters // layer.group, axis=0)
    return np.ascontiguousarray(layer.weight.restore(layer.layout.restore(trains)), np.float32)


def _channel_mask(agreed: _Agreement, network: Network) -> RetrainMask:
    parameter, claim = agreed.claim.parameter, agreed.claim
    rank = len(parameter.read_shape)
    values = parameter.restore(agreed.rows.reshape([-1 if axis == claim.axis else 1 for axis in range(rank)]))
    name = network.node_names[claim.node]
    return RetrainMask(
        parameter, name, agreed.rows, np.zeros(0, bool), np.ascontiguousarray(values, np.float32), agreed.note
    )


def _channel_claim(tensor: ChannelTensor, rows: dict[int, NDArray[np.bool_]]) -> _Claim:
    return _Claim(tensor.parameter, tensor.node, tensor.position, tensor.made_by(rows), tensor.axis)


def _agree(claims: list[_Claim], network: Network) -> dict[str, _Agreement]:
    """Returns for each tensor the rows on which all its readers agree, and why others are frozen."""
    by_name: dict[str, list[_Claim]] = defaultdict(list)
    for claim in claims:
        by_name[claim.parameter.name].append(claim)
    return {name: _agreement(group, network) for name, group in by_name.items()}


def _agreement(group: list[_Claim], network: Network) -> _Agreement:
    first = group[0]
    foreign = uses(first.parameter.value) - {(claim.node, claim.position) for claim in group}
    alike = all(claim.rows.shape == first.rows.shape and claim.axis == first.axis for claim in group)
    if foreign or not alike:
        note = None
        if first.rows.any():
            other = next((node for node, _ in foreign), group[-1].node)
            who = "an output of the model" if other is None else f"used by node {_label(other)} ({other.op_type})"
            note = f"frozen: it is {who} as well"
        return _Agreement(first, np.zeros_like(first.rows), note)
    reason = network.why_untrainable(first.parameter.name)
    if reason is not None:
        note = f"frozen: it {reason}" if first.rows.any() else None
        return _Agreement(first, np.zeros_like(first.rows), note)
    agreed = np.logical_and.reduce([claim.rows for claim in group])
    note = None
    if any((claim.rows != agreed).any() for claim in group):
        note = f"shared by {len(group)} nodes: trains only the filters on which all agree"
    return _Agreement(first, agreed, note)


def _label(node: ir.Node) -> str:
    return repr(node.name or node.outputs[0].name)


_CARRIERS = frozenset(
    {
        "Cast",
        "DequantizeLinear",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)


def uses(value: ir.Value) -> set[tuple[Optional[ir.Node], int]]:
    """Returns where a tensor is used, through nodes that hand it on; (None, -1) when it is an output of the model."""
    found: set[tuple[Optional[ir.Node], int]] = {(None, -1)} if value.is_graph_output() else set()
    for node, position in value.uses():
        found |= uses(node.outputs[0]) if node.op_type in _CARRIERS and position == 0 else {(node, position)}
    return found
