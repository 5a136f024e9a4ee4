"""Strategies that fill the retrain masks.

``importance``: what a filter is worth; ``strategies``: the table of which filters to retrain, whose rows are in ``by_score``,
``whole_layers``, ``by_sensitivity`` and ``random_filters``; ``strategy``: what a row says; ``budget``: how many filters a
fraction of the weights is; ``channels``: tensors with one number per channel; ``plan``: the retrain mask of every tensor;
``freezing``: layers that
stay as they are; ``protection``: what earlier rounds trained; ``recorded``: a selection as it is recorded.
"""

from tgdonnx.selection.by_score import ByScore, Percentile, Phi, Scored, require_phi, score_filters
from tgdonnx.selection.by_sensitivity import BySensitivity, FisherFilters, Sensitivity, SteepestFilters
from tgdonnx.selection.freezing import frozen_as_recorded, frozen_layers, without_frozen
from tgdonnx.selection.importance import Importance, filter_importance
from tgdonnx.selection.plan import MODES, PLAN_MODES, Mode, PlanMode, RetrainMask, plan_masks
from tgdonnx.selection.protection import protect_trained
from tgdonnx.selection.random_filters import RandomFilters
from tgdonnx.selection.strategies import STRATEGIES, select
from tgdonnx.selection.strategy import KINDS, Kind, Said, Selection, Strategy, StrategyType
from tgdonnx.selection.whole_layers import AllLayers, Filters, FirstLayers, LastLayers

__all__ = [
    "KINDS",
    "MODES",
    "PLAN_MODES",
    "STRATEGIES",
    "AllLayers",
    "ByScore",
    "BySensitivity",
    "Filters",
    "FirstLayers",
    "FisherFilters",
    "Importance",
    "Kind",
    "LastLayers",
    "Mode",
    "Percentile",
    "Phi",
    "PlanMode",
    "RandomFilters",
    "RetrainMask",
    "Said",
    "Scored",
    "Selection",
    "Sensitivity",
    "SteepestFilters",
    "Strategy",
    "StrategyType",
    "filter_importance",
    "frozen_as_recorded",
    "frozen_layers",
    "plan_masks",
    "protect_trained",
    "require_phi",
    "score_filters",
    "select",
    "without_frozen",
]
