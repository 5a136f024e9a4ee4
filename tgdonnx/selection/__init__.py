"""Strategies that fill the retrain masks.

``importance``: what a filter is worth; ``strategies``: which filters to retrain; ``channels``: tensors with one number per
channel; ``plan``: the retrain mask of every tensor; ``protection``: what earlier rounds trained; ``recorded``: a selection as
it is recorded.
"""

from tgdonnx.selection.importance import Importance, filter_importance
from tgdonnx.selection.plan import MODES, PLAN_MODES, Mode, PlanMode, RetrainMask, plan_masks
from tgdonnx.selection.protection import protect_trained
from tgdonnx.selection.recorded import KINDS, Kind
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
    "KINDS",
    "MODES",
    "PLAN_MODES",
    "AllLayers",
    "Filters",
    "FirstLayers",
    "Importance",
    "Kind",
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
