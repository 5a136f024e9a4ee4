"""Which filters to retrain: each strategy is a small frozen dataclass, and `select` carries it out.

`Phi` is the paper's; the others fill the same retrain masks in other ways, for comparison and for people who know better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import SelectionError
from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K
from tgdonnx.layers import Layer
from tgdonnx.scoring import LayerScores, score_layers
from tgdonnx.selection.importance import Importance, filter_importance, traced_maps
from tgdonnx.tracing.provenance import Provenance


@dataclass(frozen=True)
class Phi:
    """Filters whose every map scores below ``phi`` with every layer that reads it.

    Attributes:
        phi: threshold of the KSE, in [0, 1].
        alpha: weight of the entropy in the KSE.
        k: number of nearest neighbours in the entropy.
        tolerance: of the drop test that recommended ``phi``, for the record; None where none did.
    """

    phi: float
    alpha: float = DEFAULT_ALPHA
    k: int = DEFAULT_K
    tolerance: Optional[float] = None


@dataclass(frozen=True)
class Percentile:
    """As `Phi`, with the threshold below which the lowest ``percentile`` % of the scores of all traced maps lie."""

    percentile: float
    alpha: float = DEFAULT_ALPHA
    k: int = DEFAULT_K


@dataclass(frozen=True)
class LastLayers:
    """All filters of the last ``last`` layers (the paper's FT-net: 3)."""

    last: int


@dataclass(frozen=True)
class FirstLayers:
    """All filters of the first ``first`` layers (surgical fine-tuning, for shifts at the input)."""

    first: int


@dataclass(frozen=True)
class AllLayers:
    """Every filter: full fine-tuning."""


@dataclass(frozen=True)
class Filters:
    """The filters that are listed.

    Attributes:
        filters: for names of weights the rows to retrain.
    """

    filters: Mapping[str, Sequence[int]]


Strategy = Union[Phi, Percentile, LastLayers, FirstLayers, AllLayers, Filters]


@dataclass(frozen=True)
class Selection:
    """What a strategy selected.

    Attributes:
        strategy: the strategy and its parameters, as recorded in the masked model.
        filters: for each layer bool of shape (filters,): True for a filter that retrains.
        meaningless: for each layer bool of shape (maps,): True for an input map that means nothing to this layer.
    """

    strategy: Mapping[str, Any]
    filters: tuple[NDArray[np.bool_], ...]
    meaningless: tuple[NDArray[np.bool_], ...]


def select(provenance: Provenance, strategy: Strategy) -> Selection:
    """Carries out a strategy.

    Raises:
        SelectionError: a parameter is out of range, names no layer, or no filter is selected.
        NonFiniteWeightError: the strategy scores, and a weight holds NaN or infinity.
    """
    layers = provenance.layers
    if all(layer.weight is None for layer in layers):
        raise SelectionError(
            f"none of the {len(layers)} layers can retrain (of {layers[0].name!r}, {layers[0].problem})",
            remedy="ask for the model with its weights stored as floating-point numbers",
        )
    if isinstance(strategy, (Phi, Percentile)):
        return _by_score(provenance, strategy)
    if isinstance(strategy, LastLayers):
        chosen = layers[-_count(strategy.last, len(layers), "last") :]
        selected = _whole_layers(layers, chosen)
    elif isinstance(strategy, FirstLayers):
        selected = _whole_layers(layers, layers[: _count(strategy.first, len(layers), "first")])
    elif isinstance(strategy, AllLayers):
        selected = _whole_layers(layers, layers)
    else:
        selected = _listed(layers, strategy.filters)
    if not any(rows.any() for rows in selected):
        raise SelectionError("the selection selects no filter; list at least one")
    meaningless = tuple(
        np.array([_all_selected(origin.producers, selected) and origin.opaque is None for origin in inputs], bool)
        for inputs in provenance.layer_inputs
    )
    return Selection(_record(strategy), selected, meaningless)


@dataclass(frozen=True)
class Scored:
    """A traced network with what the thresholds of `Phi` and `Percentile` are applied to.

    Attributes:
        scores: the scores of each layer.
        traced: for each layer bool of shape (maps,): which of its input maps were traced to filters.
        importance: the importance of the filters of each layer.
    """

    scores: tuple[LayerScores, ...]
    traced: tuple[NDArray[np.bool_], ...]
    importance: tuple[Importance, ...]

    def below(self, phi: float, record: Mapping[str, Any]) -> Selection:
        """Returns the selection at a threshold, which may be empty; ``record`` is what is recorded of it."""
        selected = tuple(layer.values < phi for layer in self.importance)
        meaningless = tuple((s.kse < phi) & t for s, t in zip(self.scores, self.traced))
        return Selection(record, selected, meaningless)


def score_filters(provenance: Provenance, *, alpha: float, k: int) -> Scored:
    """Scores the maps of a traced network, and by them its filters.

    Raises:
        NonFiniteWeightError: a weight holds NaN or infinity.
        SelectionError: alpha is negative or k < 1.
    """
    scores = score_layers(provenance, alpha=alpha, k=k).layers
    return Scored(scores, traced_maps(provenance), filter_importance(provenance, scores))


def require_phi(phi: float) -> None:
    """Checks that a threshold of the KSE lies in [0, 1].

    Raises:
        SelectionError: it does not.
    """
    if not 0 <= phi <= 1:
        raise SelectionError(f"expected phi in [0, 1], got {phi:g}")


def _by_score(provenance: Provenance, strategy: Union[Phi, Percentile]) -> Selection:
    if isinstance(strategy, Phi):
        require_phi(strategy.phi)
    if isinstance(strategy, Percentile) and not 0 <= strategy.percentile <= 100:
        raise SelectionError(f"expected a percentile in [0, 100], got {strategy.percentile:g}")
    scored = score_filters(provenance, alpha=strategy.alpha, k=strategy.k)
    if isinstance(strategy, Phi):
        phi = float(strategy.phi)
    else:
        traced = [s.kse[t] for s, t in zip(scored.scores, scored.traced)]
        phi = _threshold(np.concatenate(traced), strategy.percentile)
    selection = scored.below(phi, {**_record(strategy), "phi": phi})
    if not any(rows.any() for rows in selection.filters):
        importance = scored.importance
        lowest = min((float(layer.values.min()) for layer in importance if layer.values.size), default=np.inf)
        if lowest == np.inf:
            reason = next(
                (r for layer in importance for r in layer.reasons.values()), "no map can be traced to a filter"
            )
            raise SelectionError(f"no filter can be selected by its score: every one is useful ({reason}, for example)")
        if lowest >= 1:
            raise SelectionError(
                "no filter can be selected by its score: each has a part in a map that scores 1, the highest there is"
            )
        at = f"phi = {phi:g}" if isinstance(strategy, Phi) else f"percentile {strategy.percentile:g} (phi = {phi:g})"
        raise SelectionError(
            f"{at} selects no filter; the least important filter scores {_round_up(lowest):.6f}: phi must be above"
        )
    return selection


def _round_up(score: float) -> float:
    """Returns a score with six digits, never less than it is: a phi just above has to select."""
    return float(np.ceil(score * 1e6) / 1e6)


def _threshold(scores: NDArray[np.float64], percentile: float) -> float:
    """Returns the phi below which the lowest ``percentile`` % of the scores lie; of equal scores all, or none."""
    if not scores.size:
        return 0.0
    count = int(np.floor(scores.size * percentile / 100 + 1e-9))
    return float(np.sort(scores)[count]) if count < scores.size else float(np.nextafter(1.0, 2.0))


def _count(wanted: int, available: int, name: str) -> int:
    if not 1 <= wanted <= available:
        raise SelectionError(f"expected {name} between 1 and {available}, the number of layers; got {wanted}")
    return wanted


def _whole_layers(layers: Sequence[Layer], chosen: Sequence[Layer]) -> tuple[NDArray[np.bool_], ...]:
    indices = {layer.index for layer in chosen}
    return tuple(np.full(layer.filters, layer.index in indices) for layer in layers)


def _listed(layers: Sequence[Layer], filters: Mapping[str, Sequence[int]]) -> tuple[NDArray[np.bool_], ...]:
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


def _record(strategy: Strategy) -> dict[str, Any]:
    """Returns a strategy with its parameters as plain numbers, to be written as JSON."""
    names = {Phi: "phi", Percentile: "percentile", LastLayers: "last", FirstLayers: "first", AllLayers: "all"}
    record: dict[str, Any] = {"strategy": names.get(type(strategy), "filters")}
    if isinstance(strategy, Filters):
        return {**record, "filters": {name: [int(m) for m in rows] for name, rows in strategy.filters.items()}}
    given = {name: value for name, value in asdict(strategy).items() if value is not None}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    return {**record, **plain}
