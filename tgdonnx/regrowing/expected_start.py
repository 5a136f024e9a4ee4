"""What a start with reinitialised filters must look like, as far as the vendor's file says it: to hold a recorded one against.

Masks follow from which filters are reinitialised. Of these, more than can be told without running the model is left open: a
filter is reinitialised only if its maps are 0 without it, which `tgdonnx.regrowing.reinitializable` finds by looking; here they
need to be such as could be. What was set and does not train is 0 in kernels. A mean or variance of a norm is the neutral
number, or that of a filter of the same tensor if filters were cloned; what calibration measured cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.regrowing.initial_values import neutral_number, settable_statistics
from tgdonnx.regrowing.regrow import regrown_masks
from tgdonnx.regrowing.reinitializable import Reinitialized, reinitializable
from tgdonnx.regrowing.tensor_edits import TensorEdits
from tgdonnx.selection import Kind, Selection
from tgdonnx.selection.strategy import Frozen
from tgdonnx.tracing.origins import Producer
from tgdonnx.tracing.provenance import Provenance

Array = NDArray[Any]


@dataclass(frozen=True)
class ExpectedStart:
    """What follows from which filters are reinitialised.

    Attributes:
        masks: for the name of every retrainable tensor what trains.
        set_masks: for names of tensors what was set and does not train.
        exact: for names of weights the tensor, of which what was set must have the bits.
        among: for names of means and variances the numbers, of which what was set must be one, to the bit. Of a tensor in
            ``set_masks`` that is in neither, calibration set numbers that cannot be told.
    """

    masks: Mapping[str, NDArray[np.float32]] = field(repr=False)
    set_masks: Mapping[str, NDArray[np.float32]] = field(repr=False)
    exact: Mapping[str, Array] = field(repr=False)
    among: Mapping[str, Array] = field(repr=False)


def why_not_reinitialized(
    provenance: Provenance, rows: Sequence[NDArray[np.bool_]], frozen: Frozen
) -> Mapping[Producer, str]:
    """Says of filters that cannot be reinitialised, all of them together, why not.

    Args:
        provenance: the traced network.
        rows: for each layer the filters: bool of shape (filters,).
        frozen: layers that were to stay frozen.
    """
    refused: dict[Producer, str] = {}
    reinitializable(provenance, replace(_dropped(provenance, rows), frozen=frozen), refused)
    return refused


def expected_start(
    provenance: Provenance, rows: Sequence[NDArray[np.bool_]], kind: Kind, *, isolate: bool
) -> ExpectedStart:
    """Returns what follows from reinitialised filters.

    Args:
        provenance: the traced network, from which the round started, or one that differs in what trained.
        rows: for each layer its reinitialised filters: bool of shape (filters,).
        kind: where initial values come from.
        isolate: whether useful filters never read reinitialised maps.
    """
    left, maps = reinitializable(provenance, _dropped(provenance, rows), {})
    reinitialized = Reinitialized(left, maps, {})
    planned, set_masks = regrown_masks(provenance, reinitialized, isolate=isolate)
    exact: dict[str, Array] = {}
    for layer in provenance.layers:
        if layer.weight is not None and layer.weight.name in set_masks:
            edit = TensorEdits().of(layer.weight)
            edit.set(np.arange(edit.real.size), np.zeros(edit.real.size))
            exact[layer.weight.name] = edit.stored()
    among: dict[str, Array] = {}
    for tensor in settable_statistics(provenance, dict(enumerate(reinitialized.filters))):
        stored = tensor.parameter.numpy()
        numbers = np.array([neutral_number(provenance, tensor, 0)], stored.dtype)
        if kind == "clone":
            numbers = np.concatenate([numbers, stored.reshape(-1)])
        if kind != "calibrated":
            among[tensor.parameter.name] = numbers
    return ExpectedStart({mask.parameter.name: mask.values for mask in planned}, set_masks, exact, among)


def _dropped(provenance: Provenance, rows: Sequence[NDArray[np.bool_]]) -> Selection:
    return Selection({}, tuple(rows), tuple(np.zeros(layer.maps, bool) for layer in provenance.layers))
