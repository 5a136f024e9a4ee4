"""Strategies that select by what the loss on the new data says: filters with the largest gradient.

With g the gradient of the loss by the weights w of a filter, of one sample or, where the model fixes the batch size, batch:

    steepest   |mean(g)| / |w|     how far, for its size, a step on all the samples would move the filter
    fisher     mean(g^2)           over samples and weights: the diagonal of the empirical Fisher information

The first follows Zhang, Janson, Aljundi and Elhoseiny, "Overcoming Generic Knowledge Loss with Selective Parameter Update"
(SPU), CVPR 2024, arXiv 2308.12462, who update the single parameters of a transformer's first MLP layers with the largest mean
gradient. Ours differs: whole filters of every layer, so that masks stay per filter, and relative to the filter's own norm, for
layers differ in scale. What counts as Fisher information is Kirkpatrick et al., "Overcoming catastrophic forgetting in neural
networks", PNAS 2017; there, taken of the old data, it says what to hold; here, of the new data, what to let go.

The numbers are measured by `tgdonnx.sensitivity`. What is recorded of a selection are the filters, since nobody can work them
out again without the data; `verify` takes the record's word for them, and holds them to the fraction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional, TypeVar

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import SelectionError
from tgdonnx.selection.budget import Budget, largest, require_fraction, require_within
from tgdonnx.selection.strategy import (
    FromOne,
    Frozen,
    RecordedSelection,
    Rows,
    Selection,
    Strategy,
    StrategyType,
)
from tgdonnx.selection.whole_layers import rows_of, selection_of
from tgdonnx.tracing.provenance import Provenance


@dataclass(frozen=True)
class Sensitivity:
    """What the loss on some data says of every filter of the layers that can train.

    Attributes:
        samples: how many samples it was measured on.
        weights: for names of weights how many a filter has.
        steepness: for the same names the norm of the mean gradient by that of the filter, float64 of shape (filters,), at
            least 0; infinite for a filter of norm 0 with a gradient, 0 for one without.
        fisher: for the same names the mean squared gradient, float64 of shape (filters,), at least 0.
    """

    samples: int
    weights: Mapping[str, int]
    steepness: Mapping[str, NDArray[np.float64]] = field(repr=False)
    fisher: Mapping[str, NDArray[np.float64]] = field(repr=False)


@dataclass(frozen=True)
class BySensitivity(Strategy, ABC):
    """A strategy that has to be measured on data before it selects: `measured` fills in what is left out.

    Attributes:
        fraction: of the weights of layers, above 0 and at most 1, that the filters hold together.
        samples: on how many samples it was measured; None before that.
        filters: for names of weights the rows to retrain; None before it was measured.
    """

    fraction: float
    samples: Optional[int] = None
    filters: Optional[Mapping[str, Sequence[int]]] = None

    @abstractmethod
    def values(self, sensitivity: Sensitivity) -> Mapping[str, NDArray[np.float64]]:
        """Returns for names of weights the number of every filter by which it is chosen."""

    def measured(self: Measured, sensitivity: Sensitivity) -> Measured:
        """Returns the same with the filters that it selects."""
        chosen = largest(self.values(sensitivity), sensitivity.weights, self.fraction)
        return replace(self, samples=sensitivity.samples, filters=chosen)


Measured = TypeVar("Measured", bound=BySensitivity)


@dataclass(frozen=True)
class SteepestFilters(BySensitivity):
    """The filters with the largest mean gradient, relative to their norm."""

    def values(self, sensitivity: Sensitivity) -> Mapping[str, NDArray[np.float64]]:
        """Returns the steepness."""
        return sensitivity.steepness


@dataclass(frozen=True)
class FisherFilters(BySensitivity):
    """The filters with the largest Fisher information: the mean squared gradient per sample."""

    def values(self, sensitivity: Sensitivity) -> Mapping[str, NDArray[np.float64]]:
        """Returns the Fisher information."""
        return sensitivity.fisher


class _Recorded(RecordedSelection, frozen=True, kw_only=True):
    fraction: Budget
    measured: FromOne  # `samples` is that of mode regrow
    filters: Rows


class _Steepest(_Recorded, frozen=True, tag="steepest"):
    pass


class _Fisher(_Recorded, frozen=True, tag="fisher"):
    pass


def _selecting(name: str) -> Callable[[Provenance, BySensitivity, Frozen], Selection]:
    def choose(provenance: Provenance, strategy: BySensitivity, frozen: Frozen) -> Selection:
        require_fraction(strategy.fraction)
        if strategy.filters is None or strategy.samples is None:
            raise SelectionError(
                f"what {name} selects depends on data, which it was not measured on",
                remedy="measure it first, by tgdonnx.sensitivity.measured",
            )
        rows = {weight: [int(m) for m in rows] for weight, rows in strategy.filters.items()}
        record = {
            "strategy": name,
            "fraction": float(strategy.fraction),
            "measured": int(strategy.samples),
            "filters": rows,
        }
        selected = rows_of(provenance.layers, strategy.filters)
        # Those that it was measured among, which a gradient reaches, are not known here; they hold no more than all.
        require_within(strategy.filters, provenance.layers, strategy.fraction)
        return selection_of(provenance, record, selected, frozen)

    return choose


STEEPEST = StrategyType(
    name="steepest",
    strategy=SteepestFilters,
    recorded=_Steepest,
    select=_selecting("steepest"),
    restore=lambda recorded: SteepestFilters(recorded.fraction, recorded.measured, recorded.filters),
    describe=lambda recorded: f"a list of filters (the steepest, with {recorded.fraction:.3g} of the weights)",
    told="filters with the largest mean gradient on the new data, relative to their norm, which hold {fraction} of the "
    "weights; measured on {measured} samples",
    takes="number",
    ask=lambda fraction, _said: SteepestFilters(fraction),
    help="Retrain the filters with the largest mean gradient on the new data, relative to their norm, that hold the fraction "
    "F of the weights.",
    letter="F",
    regrows=True,
)
FISHER = StrategyType(
    name="fisher",
    strategy=FisherFilters,
    recorded=_Fisher,
    select=_selecting("fisher"),
    restore=lambda recorded: FisherFilters(recorded.fraction, recorded.measured, recorded.filters),
    describe=lambda recorded: (
        f"a list of filters (of the largest Fisher information, with {recorded.fraction:.3g} of the weights)"
    ),
    told="filters with the largest mean squared gradient on the new data, which hold {fraction} of the weights; measured on "
    "{measured} samples",
    takes="number",
    ask=lambda fraction, _said: FisherFilters(fraction),
    help="The same by the mean squared gradient per sample.",
    letter="F",
    regrows=True,
)
