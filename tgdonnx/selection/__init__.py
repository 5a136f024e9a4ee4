"""Strategies that fill the retrain masks.

``importance``: what a filter is worth; ``strategies``: which filters to retrain; ``plan``: the retrain mask of every tensor;
``protection``: what earlier rounds trained.
"""

from tgdonnx.selection.importance import Importance, filter_importance
from tgdonnx.selection.plan import MODES, Mode, RetrainMask, plan_masks
from tgdonnx.selection.protection import protect_trained
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
    "protect_trained",
    "require_phi",
    "score_filters",
    "select",
]
