"""Strategies that fill the retrain masks.

``importance``: what a filter is worth; ``strategies``: which filters to retrain; ``channels``: tensors with one number per
channel; ``plan``: the retrain mask of every tensor; ``protection``: what earlier rounds trained.
"""

from tgdonnx.selection.importance import Importance, filter_importance
from tgdonnx.selection.plan import MODES, PLAN_MODES, Mode, PlanMode, RetrainMask, plan_masks
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
    "PLAN_MODES",
    "AllLayers",
    "Filters",
    "FirstLayers",
    "Importance",
    "LastLayers",
    "Mode",
    "Percentile",
    "Phi",
    "PlanMode",
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
