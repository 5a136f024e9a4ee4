"""Strategies that select all filters of some layers, or those of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import SelectionError
from tgdonnx.layers import Layer
from tgdonnx.layers.names import SIDE_PATH_PREFIX
from tgdonnx.selection.freezing import require_unfrozen, without_frozen
from tgdonnx.selection.strategy import (
    FromOne,
    Frozen,
    RecordedSelection,
    Rows,
    Selection,
    Strategy,
    StrategyType,
    record_of,
)
from tgdonnx.tracing.provenance import Provenance


@dataclass(frozen=True)
class LastLayers(Strategy):
    """All filters of the last ``last`` layers (the paper's FT-net: 3); side paths of earlier rounds do not count."""

    last: int


@dataclass(frozen=True)
class FirstLayers(Strategy):
    """All filters of the first ``first`` layers (surgical fine-tuning, for shifts at the input), counted in the same way."""

    first: int


@dataclass(frozen=True)
class AllLayers(Strategy):
    """Every filter: full fine-tuning."""


@dataclass(frozen=True)
class Filters(Strategy):
    """The filters that are listed.

    Attributes:
        filters: for names of weights the rows to retrain.
    """

    filters: Mapping[str, Sequence[int]]


class _Last(RecordedSelection, frozen=True, tag="last"):
    last: FromOne


class _First(RecordedSelection, frozen=True, tag="first"):
    first: FromOne


class _All(RecordedSelection, frozen=True, tag="all"):
    pass


class _Listed(RecordedSelection, frozen=True, tag="filters"):
    filters: Rows


def _last(provenance: Provenance, strategy: LastLayers, frozen: Frozen) -> Selection:
    layers = _vendors(provenance)
    chosen = layers[-_count(strategy.last, len(layers), "last") :]
    return selection_of(provenance, record_of("last", strategy), _whole(provenance.layers, chosen), frozen)


def _first(provenance: Provenance, strategy: FirstLayers, frozen: Frozen) -> Selection:
    layers = _vendors(provenance)
    chosen = layers[: _count(strategy.first, len(layers), "first")]
    return selection_of(provenance, record_of("first", strategy), _whole(provenance.layers, chosen), frozen)


def _all(provenance: Provenance, strategy: AllLayers, frozen: Frozen) -> Selection:
    layers = provenance.layers
    return selection_of(provenance, record_of("all", strategy), _whole(layers, layers), frozen)


def _listed(provenance: Provenance, strategy: Filters, frozen: Frozen) -> Selection:
    rows = {name: [int(m) for m in rows] for name, rows in strategy.filters.items()}
    selected = rows_of(provenance.layers, strategy.filters)
    return selection_of(provenance, {"strategy": "filters", "filters": rows}, selected, frozen)


def selection_of(
    provenance: Provenance, record: Mapping[str, Any], selected: tuple[NDArray[np.bool_], ...], frozen: Frozen
) -> Selection:
    """Returns a selection of filters, with the maps that only these have a part in.

    Args:
        provenance: the traced network.
        record: what is recorded of it.
        selected: for each layer bool of shape (filters,).
        frozen: layers that stay frozen.

    Raises:
        SelectionError: no filter is selected, or all are in layers that stay frozen.
    """
    if not any(rows.any() for rows in selected):
        raise SelectionError("the selection selects no filter; list at least one")
    meaningless = tuple(
        np.array([_all_selected(origin.producers, selected) and origin.opaque is None for origin in inputs], bool)
        for inputs in provenance.layer_inputs
    )
    selection = Selection(record, selected, meaningless)
    return require_unfrozen(selection, without_frozen(provenance, selection, frozen))


def _vendors(provenance: Provenance) -> list[Layer]:
    """Returns the layers but for those in side paths that earlier rounds added."""
    return [
        layer
        for layer in provenance.layers
        if layer.weight is None or not layer.weight.name.startswith(SIDE_PATH_PREFIX)
    ]


def _count(wanted: int, available: int, name: str) -> int:
    if not 1 <= wanted <= available:
        raise SelectionError(f"expected {name} between 1 and {available}, the number of layers; got {wanted}")
    return wanted


def _whole(layers: Sequence[Layer], chosen: Sequence[Layer]) -> tuple[NDArray[np.bool_], ...]:
    indices = {layer.index for layer in chosen}
    return tuple(np.full(layer.filters, layer.index in indices) for layer in layers)


def rows_of(layers: Sequence[Layer], filters: Mapping[str, Sequence[int]]) -> tuple[NDArray[np.bool_], ...]:
    """Returns for each layer which of its filters are listed: bool of shape (filters,).

    Args:
        layers: of the network.
        filters: for names of weights the rows that are.

    Raises:
        SelectionError: a name is no weight of a layer, or has no such row.
    """
    weights = {layer.weight.name: layer for layer in layers if layer.weight}
    for name, rows in filters.items():
        if name not in weights:
            raise SelectionError(f"{name!r} is not the weight of a layer; expected one of {', '.join(sorted(weights))}")
        count = weights[name].filters
        for row in rows:
            if isinstance(row, bool) or not isinstance(row, (int, np.integer)) or not 0 <= row < count:
                raise SelectionError(f"expected filters of {name!r} as whole numbers in 0 to {count - 1}, got {row!r}")
    selected = tuple(np.zeros(layer.filters, bool) for layer in layers)
    for layer in layers:
        if layer.weight and layer.weight.name in filters:
            selected[layer.index][list(filters[layer.weight.name])] = True
    return selected


def _all_selected(producers: frozenset[tuple[int, int]], selected: Sequence[NDArray[np.bool_]]) -> bool:
    return bool(producers) and all(selected[layer][m] for layer, m in producers)


LAST = StrategyType(
    name="last",
    strategy=LastLayers,
    recorded=_Last,
    select=_last,
    restore=lambda recorded: LastLayers(recorded.last),
    describe=lambda recorded: f"the last {recorded.last} layers",
    told="all filters of the last {last} layers",
    takes="count",
    ask=lambda number, _said: LastLayers(number),
    help="Retrain the last N layers.",
    letter="N",
    regrows=False,
)
FIRST = StrategyType(
    name="first",
    strategy=FirstLayers,
    recorded=_First,
    select=_first,
    restore=lambda recorded: FirstLayers(recorded.first),
    describe=lambda recorded: f"the first {recorded.first} layers",
    told="all filters of the first {first} layers",
    takes="count",
    ask=lambda number, _said: FirstLayers(number),
    help="Retrain the first N layers.",
    letter="N",
    regrows=False,
)
ALL = StrategyType(
    name="all",
    strategy=AllLayers,
    recorded=_All,
    select=_all,
    restore=lambda _recorded: AllLayers(),
    describe=lambda _recorded: "all layers",
    told="every filter",
    takes="nothing",
    ask=lambda _flag, _said: AllLayers(),
    help="Retrain everything.",
    letter="",
    regrows=False,
)
FILTERS = StrategyType(
    name="filters",
    strategy=Filters,
    recorded=_Listed,
    select=_listed,
    restore=lambda recorded: Filters(recorded.filters),
    describe=lambda _recorded: "a list of filters",
    told="the filters of a list",
    takes="filters",
    ask=lambda filters, _said: Filters(filters),
    help="JSON file: weight name -> list of filters.",
    letter=None,
    regrows=True,
)
