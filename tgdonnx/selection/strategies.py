"""The strategies, one row each: selecting, records, options, reports and the selections to compare follow from this table.

`Phi` is the paper's; the others fill the same retrain masks in other ways, for comparison and for people who know better. To
add one, write its row as those of `tgdonnx.selection.whole_layers` are, and put it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgdonnx.errors import SelectionError
from tgdonnx.selection.by_score import PERCENTILE, PHI
from tgdonnx.selection.by_sensitivity import FISHER, STEEPEST
from tgdonnx.selection.freezing import frozen_layers
from tgdonnx.selection.random_filters import RANDOM
from tgdonnx.selection.strategy import Selection, Strategy, StrategyType
from tgdonnx.selection.whole_layers import ALL, FILTERS, FIRST, LAST
from tgdonnx.tracing.provenance import Provenance

STRATEGIES: tuple[StrategyType[Any, Any], ...] = (
    *(PHI, PERCENTILE, LAST, FIRST, ALL, FILTERS),
    *(STEEPEST, FISHER, RANDOM),
)
BY_NAME = {each.name: each for each in STRATEGIES}


def select(provenance: Provenance, strategy: Strategy, freeze: Sequence[str] = ()) -> Selection:
    """Carries out a strategy.

    Args:
        provenance: the traced network.
        strategy: which of its filters to retrain.
        freeze: names of layers that stay frozen all the same, or patterns of names; see `tgdonnx.selection.freezing`.

    Raises:
        SelectionError: a parameter is out of range, names no layer, or no filter is selected, or left.
        NonFiniteWeightError: the strategy scores, and a weight holds NaN or infinity.
    """
    layers = provenance.layers
    if all(layer.weight is None for layer in layers):
        raise SelectionError(
            f"none of the {len(layers)} layers can retrain (of {layers[0].name!r}, {layers[0].problem})",
            remedy="ask for the model with its weights stored as floating-point numbers",
        )
    found = next(each for each in STRATEGIES if each.strategy is type(strategy))
    return found.select(provenance, strategy, frozen_layers(layers, freeze))
