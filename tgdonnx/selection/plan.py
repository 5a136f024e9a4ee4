"""From selected filters to retrain masks: one for every tensor that belongs to filters.

A filter's bias and the batch-norm scale and offset of its map share its mask (rule 6). A per-channel parameter of a map
that several filters made trains only if all of them do. A tensor that several nodes share trains only where all agree,
and one that is used for anything else stays frozen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.layers import Layer, Parameter
from tgdonnx.selection.mask_arrays import mask_array
from tgdonnx.selection.strategies import Selection
from tgdonnx.tracing.provenance import Provenance

Mode = Literal["paper", "readers"]
MODES: tuple[Mode, ...] = ("paper", "readers")


@dataclass(frozen=True)
class RetrainMask:
    """What of one tensor trains.

    Attributes:
        parameter: the tensor, in the vendor's file.
        node: the node that it belongs to (the first, if several share it).
        filters: bool of shape (filters,): True for rows that train whole.
        maps: bool of shape (maps,): True for input maps whose kernels train in every row. Of length 0 in mode ``paper``,
            and for tensors that read no maps.
        values: float32, 0 or 1, of a shape that broadcasts against the tensor.
        note: why rows that were selected stay frozen, or None.
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
        return int(self.values.sum()) * (int(np.prod(self.parameter.shape)) // self.values.size)


@dataclass(frozen=True)
class _Claim:
    """A node's wish to train rows of a tensor."""

    parameter: Parameter
    node: ir.Node
    position: int
    rows: NDArray[np.bool_]


def plan_masks(provenance: Provenance, selection: Selection, mode: Mode) -> tuple[RetrainMask, ...]:
    """Returns the retrain mask of every retrainable tensor, also of those in which nothing trains.

    Args:
        provenance: the traced network.
        selection: which of its filters to retrain.
        mode: ``paper`` for masks per filter, ``readers`` for masks per kernel, by which the kernels that read a
            meaningless map train too.
    """
    network = provenance.network
    layers = [layer for layer in network.layers if layer.weight]
    weights = _agree(
        [_Claim(layer.weight, layer.node, 1, selection.filters[layer.index]) for layer in layers if layer.weight]
    )
    rows = {layer.index: weights[layer.weight.name][0] for layer in layers if layer.weight}
    channels = _agree([*_biases(layers, rows), *_batch_norms(provenance, rows)])
    released = _agree(
        [_Claim(layer.weight, layer.node, 1, selection.meaningless[layer.index]) for layer in layers if layer.weight]
    )
    masks = []
    done = set()
    for layer in layers:
        assert layer.weight is not None
        if layer.weight.name not in done:
            done.add(layer.weight.name)
            maps = released[layer.weight.name][0] if mode == "readers" else np.zeros(0, bool)
            filters, note = weights[layer.weight.name]
            values = mask_array(layer.weight.shape, layer.group, filters, maps)
            masks.append(RetrainMask(layer.weight, layer.name, filters, maps, values, note))
    for claim in (*_biases(layers, rows), *_batch_norms(provenance, rows)):
        name = claim.parameter.name
        if name not in done and name not in weights:
            done.add(name)
            filters, note = channels[name]
            node = network.node_names[claim.node]
            none = np.zeros(0, bool)
            values = mask_array(claim.parameter.shape, 1, filters, none)
            masks.append(RetrainMask(claim.parameter, node, filters, none, values, note))
    return tuple(masks)


def _biases(layers: list[Layer], rows: dict[int, NDArray[np.bool_]]) -> list[_Claim]:
    return [
        _Claim(layer.bias, layer.node, 2, rows[layer.index])
        for layer in layers
        if layer.bias and layer.bias.shape == (layer.filters,)
    ]


def _batch_norms(provenance: Provenance, rows: dict[int, NDArray[np.bool_]]) -> list[_Claim]:
    claims = []
    for node in provenance.network.graph:
        if node.op_type != "BatchNormalization" or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
            continue
        for position in (1, 2):  # scale and offset; running mean and variance never move
            parameter = provenance.network.parameter(node.inputs[position])
            if isinstance(parameter, str) or len(parameter.shape) != 1:
                continue
            origins = provenance.of_channels(node.inputs[0], parameter.shape[0])
            trains = [
                bool(origin.producers)
                and origin.opaque is None
                and all(layer in rows and rows[layer][m] for layer, m in origin.producers)
                for origin in origins
            ]
            claims.append(_Claim(parameter, node, position, np.array(trains, bool)))
    return claims


def _agree(claims: list[_Claim]) -> dict[str, tuple[NDArray[np.bool_], Optional[str]]]:
    """Returns for each tensor the rows on which all its users agree, and why others are frozen."""
    by_name: dict[str, list[_Claim]] = defaultdict(list)
    for claim in claims:
        by_name[claim.parameter.name].append(claim)
    agreed: dict[str, tuple[NDArray[np.bool_], Optional[str]]] = {}
    for name, group in by_name.items():
        first = group[0]
        foreign = _uses(first.parameter.value) - {(claim.node, claim.position) for claim in group}
        note = None
        if foreign or any(claim.rows.shape != first.rows.shape for claim in group):
            agreed_rows = np.zeros_like(first.rows)
            other = next((node for node, _ in foreign), group[-1].node)
            if first.rows.any():
                note = "frozen: it is " + (
                    f"used by node {other.name or other.outputs[0].name!r} ({other.op_type}) as well"
                    if other is not None
                    else "an output of the model as well"
                )
        else:
            agreed_rows = np.logical_and.reduce([claim.rows for claim in group])
            if any((claim.rows != agreed_rows).any() for claim in group):
                note = f"shared by {len(group)} nodes: trains only the filters on which all agree"
        agreed[name] = (agreed_rows, note)
    return agreed


def _uses(value: ir.Value) -> set[tuple[Optional[ir.Node], int]]:
    """Returns where a tensor is used, through Identity; (None, -1) when it is an output of the model."""
    uses: set[tuple[Optional[ir.Node], int]] = {(None, -1)} if value.is_graph_output() else set()
    for node, position in value.uses():
        uses |= _uses(node.outputs[0]) if node.op_type == "Identity" else {(node, position)}
    return uses
