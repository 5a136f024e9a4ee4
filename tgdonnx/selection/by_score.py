"""Strategies that select by the KSE of maps: below a threshold, or by the lowest percentage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import SelectionError
from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K
from tgdonnx.scoring import LayerScores, score_layers
from tgdonnx.selection.freezing import require_unfrozen, without_frozen
from tgdonnx.selection.importance import Importance, filter_importance, traced_maps
from tgdonnx.selection.strategy import (
    FromOne,
    Frozen,
    NotNegative,
    RecordedSelection,
    Selection,
    Strategy,
    StrategyType,
    record_of,
)
from tgdonnx.tracing.provenance import Provenance

_OTHERWISE = "select whole layers, or filters by their gradient on the new data"


class ByScore(Strategy):
    """A strategy that selects below a threshold of the KSE; the parameters of that are its fields."""

    alpha: float
    k: int


class RecordedByScore(RecordedSelection, frozen=True, kw_only=True):
    """What is recorded of it: the threshold below which filters were selected, too."""

    phi: NotNegative
    alpha: NotNegative
    k: FromOne


@dataclass(frozen=True)
class Phi(ByScore):
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
class Percentile(ByScore):
    """As `Phi`, with the threshold below which the lowest ``percentile`` % of the scores of all traced maps lie."""

    percentile: float
    alpha: float = DEFAULT_ALPHA
    k: int = DEFAULT_K


class _Phi(RecordedByScore, frozen=True, tag="phi"):
    phi: Annotated[float, msgspec.Meta(ge=0, le=1)]
    tolerance: Optional[NotNegative] = None


class _Percentile(RecordedByScore, frozen=True, tag="percentile"):
    percentile: Annotated[float, msgspec.Meta(ge=0, le=100)]


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


def _below_phi(provenance: Provenance, strategy: Phi, frozen: Frozen) -> Selection:
    require_phi(strategy.phi)
    scored, phi = score_filters(provenance, alpha=strategy.alpha, k=strategy.k), float(strategy.phi)
    selection = _require_some(scored, scored.below(phi, record_of("phi", strategy) | {"phi": phi}), f"phi = {phi:g}")
    return require_unfrozen(selection, without_frozen(provenance, selection, frozen))


def _lowest(provenance: Provenance, strategy: Percentile, frozen: Frozen) -> Selection:
    if not 0 <= strategy.percentile <= 100:
        raise SelectionError(f"expected a percentile in [0, 100], got {strategy.percentile:g}")
    scored = score_filters(provenance, alpha=strategy.alpha, k=strategy.k)
    traced = [s.kse[t] for s, t in zip(scored.scores, scored.traced)]
    phi = _threshold(np.concatenate(traced), strategy.percentile)
    selection = scored.below(phi, {**record_of("percentile", strategy), "phi": phi})
    selection = _require_some(scored, selection, f"percentile {strategy.percentile:g} (phi = {phi:g})")
    return require_unfrozen(selection, without_frozen(provenance, selection, frozen))


def _require_some(scored: Scored, selection: Selection, asked: str) -> Selection:
    """Returns a selection, if it selects a filter; else says which threshold would."""
    if any(rows.any() for rows in selection.filters):
        return selection
    importance = scored.importance
    lowest = min((float(layer.values.min()) for layer in importance if layer.values.size), default=np.inf)
    if lowest == np.inf:
        reason = next((r for layer in importance for r in layer.reasons.values()), "no map can be traced to a filter")
        raise SelectionError(
            f"no filter can be selected by its score: every one is useful ({reason}, for example)", remedy=_OTHERWISE
        )
    if lowest >= 1:
        raise SelectionError(
            "no filter can be selected by its score: each has a part in a map that scores 1, the highest there is",
            remedy=_OTHERWISE,
        )
    raise SelectionError(
        f"{asked} selects no filter; the least important filter scores {_round_up(lowest):.6f}: phi must be above"
    )


def _round_up(score: float) -> float:
    """Returns a score with six digits, never less than it is: a phi just above has to select."""
    return float(np.ceil(score * 1e6) / 1e6)


def _threshold(scores: NDArray[np.float64], percentile: float) -> float:
    """Returns the phi below which the lowest ``percentile`` % of the scores lie; of equal scores all, or none."""
    if not scores.size:
        return 0.0
    count = int(np.floor(scores.size * percentile / 100 + 1e-9))
    return float(np.sort(scores)[count]) if count < scores.size else float(np.nextafter(1.0, 2.0))


def _describe_phi(recorded: _Phi) -> str:
    return f"phi {recorded.phi:g}" + (" (as the drop test found it)" if recorded.tolerance is not None else "")


PHI = StrategyType(
    name="phi",
    strategy=Phi,
    recorded=_Phi,
    select=_below_phi,
    restore=lambda recorded: Phi(recorded.phi, recorded.alpha, recorded.k, recorded.tolerance),
    describe=_describe_phi,
    told="filters whose every map scores below phi with every layer that reads it",
    takes="number",
    ask=lambda phi, said: Phi(phi, said.alpha, said.k),
    help="Retrain filters whose maps score below PHI everywhere; auto: the PHI that sweep recommends.",
    letter="P",
    regrows=True,
)
PERCENTILE = StrategyType(
    name="percentile",
    strategy=Percentile,
    recorded=_Percentile,
    select=_lowest,
    restore=lambda recorded: Percentile(recorded.percentile, recorded.alpha, recorded.k),
    describe=lambda recorded: f"percentile {recorded.percentile:g}",
    told="as by phi; phi is the threshold below which the lowest {percentile} % of all traced scores lie",
    takes="number",
    ask=lambda percentile, said: Percentile(percentile, said.alpha, said.k),
    help="Retrain by the lowest Q % of the scores of all traced maps.",
    letter="Q",
    regrows=True,
)
