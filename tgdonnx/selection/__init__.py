"""Strategies that fill the retrain masks.

``importance``: what a filter is worth; ``strategies``: which filters to retrain; ``plan``: the retrain mask of every tensor.
"""

from tgdonnx.selection.importance import Importance, filter_importance
from tgdonnx.selection.plan import MODES, Mode, RetrainMask, plan_masks
from tgdonnx.selection.strategies import (
    AllLayers,
    Filters,
    FirstLayers,
    LastLayers,
    Percentile,
    Phi,
    Scored,
    Selection,
    Strategy,
    require_phi,
    score_filters,
    select,
)

__all__ = [
    "MODES",
    "AllLayers",
    "Filters",
    "FirstLayers",
    "Importance",
    "LastLayers",
    "Mode",
    "Percentile",
    "Phi",
    "RetrainMask",
    "Scored",
    "Selection",
    "Strategy",
    "filter_importance",
    "plan_masks",
    "require_phi",
    "score_filters",
    "select",
]
