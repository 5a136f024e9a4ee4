"""How much each filter matters to those who read it (TGD, section 2.1, and rules 3 to 5 of our reading of it).

The importance of a filter is the largest KSE that any layer gives to any map that the filter has a part in. Where nobody
can tell, it is infinite: a filter that is not known to be unimportant stays frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tgdonnx.scoring import LayerScores
from tgdonnx.tracing.origins import TOO_MANY, Origin
from tgdonnx.tracing.provenance import Provenance
from tgdonnx.tracing.report import why_not_traced


@dataclass(frozen=True)
class Importance:
    """The importance of the filters of one layer.

    Attributes:
        values: float64 of shape (filters,), in [0, 1], or infinite.
        reasons: for each filter of infinite importance, why.
    """

    values: NDArray[np.float64]
    reasons: dict[int, str]


def filter_importance(provenance: Provenance, scores: Sequence[LayerScores]) -> tuple[Importance, ...]:
    """Returns the importance of the filters of every layer.

    Args:
        provenance: the traced network.
        scores: the scores of the input maps of each of its layers.
    """
    layers = provenance.layers
    unread = -1.0
    values = [np.full(layer.filters, unread) for layer in layers]
    reasons: list[dict[int, str]] = [{} for _ in layers]

    def useful(origin: Origin, reason: str) -> None:
        for layer, m in origin.producers:
            values[layer][m] = np.inf
            reasons[layer].setdefault(m, reason)

    for layer in layers:
        if layer.problem is not None:
            for operand in layer.node.inputs:
                for origin in _origins(provenance, operand):
                    useful(origin, f"it is read by {layer.name!r}, which cannot be scored: {layer.problem}")
    for ids in provenance.ids.values():
        for origin in {int(i): provenance.table[int(i)] for i in ids.flat}.values():
            if origin.opaque is not None:
                useful(origin, origin.opaque)
    for i in provenance.table.given_up:
        useful(provenance.table[i], TOO_MANY)
    for value in provenance.network.graph.outputs:
        for origin in _origins(provenance, value):
            useful(origin, f"it reaches the output {value.name!r}")
    for layer, inputs in zip(layers, provenance.layer_inputs):
        for origin in inputs:
            if origin.opaque is not None:
                useful(origin, origin.opaque)
        for origin, map_score in zip(inputs, scores[layer.index].kse):
            for producer, m in origin.producers:
                values[producer][m] = max(values[producer][m], map_score)
    for layer in layers:
        for index in np.flatnonzero(values[layer.index] == unread):
            values[layer.index][index] = np.inf
            reasons[layer.index][int(index)] = "no layer reads it"
    return tuple(Importance(v, r) for v, r in zip(values, reasons))


def traced_maps(provenance: Provenance) -> tuple[NDArray[np.bool_], ...]:
    """Returns for each layer which of its input maps were traced to filters: bool of shape (maps,)."""
    return tuple(
        np.array([why_not_traced(origin) is None for origin in inputs], bool) for inputs in provenance.layer_inputs
    )


def _origins(provenance: Provenance, value: object) -> list[Origin]:
    ids = provenance.ids.get(value)  # type: ignore[call-overload]  # a constant has no entry
    return [] if ids is None else [provenance.table[int(i)] for i in np.unique(ids)]
