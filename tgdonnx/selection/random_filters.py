"""Filters at random: the control of every selection of single filters, at the same number of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgdonnx.errors import SelectionError
from tgdonnx.selection.budget import Budget, largest, require_fraction, weights_per_filter
from tgdonnx.selection.strategy import Count, Frozen, RecordedSelection, Selection, Strategy, StrategyType
from tgdonnx.selection.whole_layers import rows_of, selection_of
from tgdonnx.tracing.provenance import Provenance


@dataclass(frozen=True)
class RandomFilters(Strategy):
    """Filters at random, of all layers alike.

    Attributes:
        fraction: of the weights of layers, above 0 and at most 1, that they hold together.
        seed: which draw.
    """

    fraction: float
    seed: int = 0


class _Random(RecordedSelection, frozen=True, tag="random"):
    fraction: Budget
    draw: Count  # `seed` is that of modes regrow and adapter


def _random(provenance: Provenance, strategy: RandomFilters, frozen: Frozen) -> Selection:
    require_fraction(strategy.fraction)
    if strategy.seed < 0:
        raise SelectionError(f"expected a seed of at least 0, got {strategy.seed}")
    network = provenance.network
    layers = {layer.weight.name: layer for layer in network.layers if layer.weight and layer.index not in frozen}
    filters = {name: layer.filters for name, layer in layers.items() if network.why_untrainable(name) is None}
    if not filters:
        raise SelectionError("no filter can retrain", remedy="`tgdonnx.inspect` tells why")
    generator = np.random.default_rng(strategy.seed)
    values = {name: generator.random(count) for name, count in filters.items()}
    weights = {name: weights_per_filter(layers[name]) for name in filters}
    selected = rows_of(provenance.layers, largest(values, weights, strategy.fraction))
    record = {"strategy": "random", "fraction": float(strategy.fraction), "draw": int(strategy.seed)}
    return selection_of(provenance, record, selected, frozen)


RANDOM = StrategyType(
    name="random",
    strategy=RandomFilters,
    recorded=_Random,
    select=_random,
    restore=lambda recorded: RandomFilters(recorded.fraction, recorded.draw),
    describe=lambda recorded: f"filters at random with {recorded.fraction:.3g} of the weights",
    told="filters at random, which hold {fraction} of the weights; draw {draw}",
    takes="number",
    ask=lambda fraction, said: RandomFilters(fraction, said.seed),
    help="Retrain filters at random that hold the fraction F of the weights: a control.",
    letter="F",
    regrows=True,
)
