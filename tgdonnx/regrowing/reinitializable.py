"""Which dropped filters can be reinitialised, and which maps are reinitialised with them.

A filter is reinitialised if afterwards nobody can tell it from a dropped one, until training begins: everyone who reads a map
that it has a part in must read exactly 0 from a dropped filter, and be free to ignore a reinitialised one, by kernels that are
zero.

- Every map that it has a part in is read by layers alone, by weights that can be changed: not by the model's output, an
  operator that cannot be traced, a layer whose weight is not stored, or one that shares its weight.
- Of such a map all producers are reinitialised. The map is then the same for every input, whatever it is.
- Without its producers it is 0 at every reader. That is found by looking: behind a Sigmoid, or an offset that stays, it is not.
- Neither it nor a layer that reads it is to stay frozen.
- What has to change for it belongs to no other node, and stored integers can count what initial values need.

Each filter that fails makes others fail that share a map with it, so this is repeated until all that are left pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.layers import MATRIX_PRODUCTS, Layer
from tgdonnx.regrowing.activations import observe_activations
from tgdonnx.runtime import Device
from tgdonnx.selection import RetrainMask, Selection, plan_masks
from tgdonnx.selection.channels import channel_tensors
from tgdonnx.selection.plan import uses
from tgdonnx.selection.strategy import Frozen
from tgdonnx.sweeping.dropping import drop_filters
from tgdonnx.sweeping.running import Feeds
from tgdonnx.tracing.origins import Origin, Producer
from tgdonnx.tracing.provenance import Provenance
from tgdonnx.tracing.report import why_not_traced

_LEAST_REACH = 0.1  # of the standard deviation of initial values; with less, they would be as good as dead


@dataclass(frozen=True)
class Reinitialized:
    """Filters to be reinitialised.

    Attributes:
        filters: for each layer bool of shape (filters,).
        maps: for each layer bool of shape (maps,): True for an input map that is made by nothing but reinitialised filters.
        refused: why the other filters that were selected are not.
    """

    filters: tuple[NDArray[np.bool_], ...]
    maps: tuple[NDArray[np.bool_], ...]
    refused: Mapping[Producer, str]

    @property
    def selection(self) -> Selection:
        """The reinitialised filters and maps, as they are handed to `plan_masks`."""
        return Selection({}, self.filters, self.maps)


def choose_reinitialized(
    provenance: Provenance, selection: Selection, model: onnx.ModelProto, feeds: Feeds, device: Device
) -> Reinitialized:
    """Finds the selected filters that can be reinitialised.

    Args:
        provenance: the traced network.
        selection: which of its filters are dropped.
        model: the same model with its weights in it.
        feeds: what to run the dropped model on; what it is must not matter.
        device: where to run it.

    Raises:
        DataError: the model cannot be run on the feeds.
        ModelFileError: the runtime cannot load the model.
    """
    refused: dict[Producer, str] = {}
    while True:
        rows, maps = reinitializable(provenance, selection, refused)
        dropped = drop_filters(model, plan_masks(provenance, Selection({}, rows, maps), "paper"))
        if not any(row.any() for row in rows):
            return Reinitialized(rows, maps, refused)
        seen = [
            (provenance.layer_inputs[layer.index][c], f"without it, {layer.name!r} reads {value:.3g} there, not 0")
            for layer, c, value in _not_zero(provenance, dropped, maps, feeds, device)
        ]
        for origin, reason in seen:
            for producer in origin.producers:
                refused.setdefault(producer, reason)
        if not seen:
            return Reinitialized(rows, maps, refused)


def reinitializable(
    provenance: Provenance, selection: Selection, refused: dict[Producer, str]
) -> tuple[tuple[NDArray[np.bool_], ...], tuple[NDArray[np.bool_], ...]]:
    """Finds the selected filters that can be reinitialised as far as the graph and the stored tensors tell, without running it.

    Args:
        provenance: the traced network.
        selection: which of its filters are dropped.
        refused: why filters cannot be reinitialised; what is found is added.

    Returns:
        For each layer the filters that are left, and the input maps that are made by nothing but these.
    """
    wanted = {(i, int(m)) for i, rows in enumerate(selection.filters) for m in np.flatnonzero(rows)}

    def refuse(producers: Sequence[Producer] | frozenset[Producer], reason: str) -> None:
        for producer in producers:
            if producer in wanted:
                refused.setdefault(producer, reason)

    planned = plan_masks(provenance, selection, "paper")
    _refuse_frozen(provenance, selection.frozen, refuse)
    _refuse_unplanned(provenance, planned, refuse)
    _refuse_unread(provenance, wanted, refuse)
    _refuse_shared(provenance, planned, refuse)
    _refuse_readers(provenance, refuse)
    _refuse_narrow(provenance, refuse)
    while True:
        left = wanted - set(refused)
        mixed = [_why_mixed(layer, origin, left) for layer, origin in _read_maps(provenance, left)]
        for producers, reason in filter(None, mixed):
            refuse(producers, reason)
        if not any(mixed):
            maps = [np.array([_is_made_by(o, left) for o in inputs], bool) for inputs in provenance.layer_inputs]
            return _rows(provenance, left), tuple(maps)


def _rows(provenance: Provenance, left: set[Producer]) -> tuple[NDArray[np.bool_], ...]:
    return tuple(
        np.array([(layer.index, m) in left for m in range(layer.filters)], bool) for layer in provenance.layers
    )


def _is_made_by(origin: Origin, left: set[Producer]) -> bool:
    return why_not_traced(origin) is None and not origin.inputs and origin.producers <= left


def _read_maps(provenance: Provenance, left: set[Producer]) -> Iterator[tuple[Layer, Origin]]:
    for layer, inputs in zip(provenance.layers, provenance.layer_inputs):
        for origin in inputs:
            if origin.producers & left:
                yield layer, origin


def _why_mixed(layer: Layer, origin: Origin, left: set[Producer]) -> Optional[tuple[frozenset[Producer], str]]:
    """Says who cannot be reinitialised since a map has other sources as well; None if it has none."""
    if _is_made_by(origin, left):
        return None
    if origin.opaque is not None:
        return origin.producers, origin.opaque
    if origin.producers - left:
        return (
            origin.producers,
            f"other filters, which stay as they are, have a part in the map that {layer.name!r} reads",
        )
    return origin.producers, f"an input of the model has a part in the map that {layer.name!r} reads"


Refuse = Callable[[frozenset[Producer], str], None]


def _refuse_frozen(provenance: Provenance, frozen: Frozen, refuse: Refuse) -> None:
    """Refuses filters of layers that stay frozen, and those that they read: their kernels would have to be 0."""
    for layer, inputs in zip(provenance.layers, provenance.layer_inputs):
        if layer.index in frozen:
            refuse(frozenset((layer.index, m) for m in range(layer.filters)), "its layer is to stay frozen")
            refuse(_producers(inputs), f"it is read by {layer.name!r}, which is to stay frozen")


def _refuse_unplanned(provenance: Provenance, planned: Sequence[RetrainMask], refuse: Refuse) -> None:
    """Refuses filters that cannot train at all."""
    masks = {mask.parameter.name: mask for mask in planned}
    for layer in provenance.layers:
        mask = masks.get(layer.weight.name) if layer.weight else None
        for m in range(layer.filters):
            if mask is None or not mask.filters[m]:
                reason = mask.note if mask is not None and mask.note else f"{layer.problem}"
                refuse(frozenset({(layer.index, m)}), reason)


def _refuse_unread(provenance: Provenance, wanted: set[Producer], refuse: Refuse) -> None:
    """Refuses filters that reach an output without a layer behind them, or nobody."""
    network = provenance.network
    for value in network.graph.outputs:
        for origin in _origins(provenance, value):
            refuse(origin.producers, f"it reaches the output {value.name!r}")
    read = frozenset().union(*(origin.producers for inputs in provenance.layer_inputs for origin in inputs))
    refuse(frozenset(wanted) - read, "no layer reads it")


def _refuse_shared(provenance: Provenance, planned: Sequence[RetrainMask], refuse: Refuse) -> None:
    """Refuses filters for which a tensor would have to change that several nodes read."""
    masks = {mask.parameter.name: mask for mask in planned}
    for layer, inputs in zip(provenance.layers, provenance.layer_inputs):
        if layer.weight is None:
            continue
        name = layer.weight.name
        if len(uses(layer.weight.value)) > 1:
            reason = f"{name!r} is read by several nodes"
            refuse(frozenset((layer.index, m) for m in range(layer.filters)), reason)
            refuse(_producers(inputs), f"it is read by {layer.name!r}, whose weight {reason}")
        untrainable = provenance.network.why_untrainable(name)
        if untrainable is not None:
            refuse(_producers(inputs), f"it is read by {layer.name!r}, whose weight {name!r} {untrainable}")
    for tensor in channel_tensors(provenance):
        mask = masks[tensor.parameter.name]
        if len(uses(tensor.parameter.value)) > 1:
            own = [origin for origin, trains in zip(tensor.origins, mask.filters) if trains]
            refuse(_producers(own), f"its {tensor.parameter.name!r} is read by several nodes")


def _refuse_readers(provenance: Provenance, refuse: Refuse) -> None:
    """Refuses filters whose maps are read by somebody who cannot ignore them, or where nobody can look."""
    graph = provenance.network.graph
    in_file = {name for node in provenance.network.file.proto.graph.node for name in node.output}
    for ids in provenance.ids.values():
        for origin in {int(i): provenance.table[int(i)] for i in ids.flat}.values():
            if origin.opaque is not None:
                refuse(origin.producers, origin.opaque)
    for layer, inputs in zip(provenance.layers, provenance.layer_inputs):
        if layer.problem is not None:
            read = [origin for value in layer.node.inputs for origin in _origins(provenance, value)]
            refuse(_producers(read), f"it is read by {layer.name!r}, which cannot be scored: {layer.problem}")
        value = layer.node.inputs[0]
        if layer.node.graph is not graph or (value is not None and value.producer() and value.name not in in_file):
            refuse(_producers(inputs), f"it is read by {layer.name!r}, which is inside a branch, a loop or a function")
    for node in graph.all_nodes():
        if inner_graphs(node):
            made = [origin for value in node.outputs for origin in _origins(provenance, value)]
            refuse(_producers(made), f"it passes through {provenance.network.node_names[node]!r} ({node.op_type})")


def _refuse_narrow(provenance: Provenance, refuse: Refuse) -> None:
    """Refuses filters that are stored as integers with a scale so small, as of dead filters, that initial values do not fit."""
    for layer in provenance.layers:
        if layer.weight is None or layer.weight.quantization is None:
            continue
        dtype, limits = layer.weight.numpy().dtype, layer.weight.quantization.limits
        ends = [layer.weight.dequantized(np.full(layer.weight.shape, limit, dtype)) for limit in limits]
        reach = layer.layout.kernels(layer.weight.rearrange(np.minimum(*np.abs(ends)))).reshape(layer.filters, -1)
        needed = _LEAST_REACH * np.sqrt(2 / reach.shape[1])  # of He, if it reads all maps
        for m in np.flatnonzero(reach.min(axis=1) < needed):
            reason = f"its integers reach up to {reach[m].min():.3g}, too little for initial values"
            refuse(frozenset({(layer.index, int(m))}), reason)


def _origins(provenance: Provenance, value: Optional[ir.Value]) -> list[Origin]:
    ids = provenance.ids.get(value) if value is not None else None
    return [] if ids is None else [provenance.table[int(i)] for i in np.unique(ids)]


def _producers(origins: Sequence[Origin]) -> frozenset[Producer]:
    return frozenset().union(*(origin.producers for origin in origins))


def _not_zero(
    provenance: Provenance, dropped: onnx.ModelProto, maps: Sequence[NDArray[np.bool_]], feeds: Feeds, device: Device
) -> Iterator[tuple[Layer, int, float]]:
    """Yields the input maps that are not 0 without their producers, and a number that is read there instead."""
    readers = [layer for layer in provenance.layers if maps[layer.index].any()]
    values = {layer.index: str(layer.node.inputs[0].name) for layer in readers if layer.node.inputs[0] is not None}
    known = provenance.network.sizes.shapes
    shapes = {str(v.name): known.get(v, ()) for v in (layer.node.inputs[0] for layer in readers) if v is not None}
    reading = {name: [layer for layer in readers if values[layer.index] == name] for name in shapes}

    def measure(name: str, array: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        return [_largest(array, layer) for layer in reading[name]]

    for name, runs in observe_activations(dropped, shapes, feeds, device, measure).items():
        for layer, found in zip(reading[name], zip(*runs)):
            largest = np.max(found, axis=0)
            for c in np.flatnonzero(maps[layer.index] & (largest != 0)):  # NaN is not 0 either
                yield layer, int(c), float(largest[c])


def _largest(array: NDArray[np.float32], layer: Layer) -> NDArray[np.float64]:
    """Returns the largest magnitude in each input map of a layer."""
    axis = -1 if layer.op_type in MATRIX_PRODUCTS else 1
    by_map = np.moveaxis(array, axis, 0).reshape(layer.maps, -1)
    largest: NDArray[np.float64] = np.abs(by_map.astype(np.float64)).max(axis=1, initial=0)
    return largest
