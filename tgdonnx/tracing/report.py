"""The trace of a model as a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

from tgdonnx.errors import SelectionError
from tgdonnx.files.model_file import ModelSource
from tgdonnx.layers import open_network
from tgdonnx.presenting import Presented
from tgdonnx.tracing.origins import Origin
from tgdonnx.tracing.path import Step, find_path
from tgdonnx.tracing.provenance import trace_network


@dataclass(frozen=True)
class Producer:
    """A filter that makes a map, alone or with others.

    Attributes:
        node: the layer.
        filter: the index of the filter in its weight.
    """

    node: str
    filter: int


@dataclass(frozen=True)
class MapTrace:
    """What one input map was made from.

    Attributes:
        map: its index among the input maps of the layer.
        producers: every filter that it depends on without another layer between, sorted by layer and filter; empty when
            ``reason`` is set.
        reason: why there are none: the map is untraceable, a graph input, or constant. None otherwise.
        path: the nodes between the layer and the producers; only where one map was asked for.
    """

    map: int
    producers: tuple[Producer, ...]
    reason: Optional[str]
    path: tuple[Step, ...] = ()


@dataclass(frozen=True)
class LayerTrace:
    """The input maps of one layer.

    Attributes:
        node: the layer.
        weight: the name of its weight; None when it has none that can be read, and then no map is listed.
        maps: one entry per input map.
        reason: why no map is listed. None if maps are.
    """

    node: str
    weight: Optional[str]
    maps: tuple[MapTrace, ...]
    reason: Optional[str] = None


@dataclass(frozen=True, repr=False)
class TraceReport(Presented):
    """The traces of all layers, in topological order."""

    model: str
    layers: tuple[LayerTrace, ...]


def trace(model: ModelSource, *, layer: Optional[str] = None, map_index: Optional[int] = None) -> TraceReport:
    """Traces input maps of layers to the filters that produced them.

    Args:
        model: the file, or a model in memory; see `tgdonnx.files.in_memory`.
        layer: the name of the one layer to report; all if None.
        map_index: the one input map of that layer to report; all if None.

    Raises:
        ModelFileError: no usable model.
        SelectionError: there is no such layer, or no such map.
    """
    provenance = trace_network(open_network(model))
    network, inputs = provenance.network, provenance.layer_inputs
    chosen = [entry for entry in provenance.layers if layer is None or entry.name == layer]
    if not chosen:
        names = ", ".join(repr(entry.name) for entry in network.layers[:8])
        raise SelectionError(
            f"the model has no layer {layer!r}; its layers are {names}{', ...' * (len(network.layers) > 8)}"
        )
    if map_index is not None and not chosen[0].maps:
        raise SelectionError(
            f"{layer!r} has no input maps to choose from: {chosen[0].problem}", remedy="trace the layer"
        )
    if map_index is not None and not 0 <= map_index < chosen[0].maps:
        raise SelectionError(
            f"expected a map in 0 to {chosen[0].maps - 1}, the input maps of {layer!r}; got {map_index}"
        )
    # One object each: a deep residual net names the same filters millions of times.
    producers = {(entry.index, m): Producer(entry.name, m) for entry in network.layers for m in range(entry.filters)}
    layers = tuple(
        LayerTrace(
            entry.name,
            entry.weight.name if entry.weight else None,
            tuple(
                _map_trace(index, origin, producers)
                if map_index is None
                else replace(_map_trace(index, origin, producers), path=find_path(provenance, entry, index))
                for index, origin in enumerate(inputs[entry.index])
                if map_index is None or index == map_index
            ),
            None if entry.maps else entry.problem,
        )
        for entry in chosen
    )
    return TraceReport(str(network.file.path), layers)


def _map_trace(index: int, origin: Origin, known: Mapping[tuple[int, int], Producer]) -> MapTrace:
    reason = why_not_traced(origin)
    if reason is not None:
        return MapTrace(index, (), reason)
    return MapTrace(index, tuple(known[producer] for producer in sorted(origin.producers)), None)


def why_not_traced(origin: Origin) -> Optional[str]:
    """Returns why a map has no set of producers, or None if it has one."""
    if origin.opaque is not None:
        return origin.opaque
    if origin.producers:
        return None
    if origin.inputs:
        return "it is read from the graph input " + ", ".join(repr(name) for name in sorted(origin.inputs))
    return "it is constant"
