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
    Selection,
    Strategy,
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
    "Selection",
    "Strategy",
    "filter_importance",
    "plan_masks",
    "select",
]
