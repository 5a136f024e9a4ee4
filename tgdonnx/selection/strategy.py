"""What a strategy is: what it selects, how it is recorded, and how a user asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K
from tgdonnx.tracing.provenance import Provenance

Kind = Literal["clone", "he", "calibrated"]
KINDS: tuple[Kind, ...] = ("clone", "he", "calibrated")
Count = Annotated[int, msgspec.Meta(ge=0)]
FromOne = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Rows = dict[str, list[Count]]
Frozen = frozenset[int]
"""Indices of layers that stay frozen, whatever is selected."""


class Strategy:
    """Which filters to retrain, as it was asked for: the base of small frozen dataclasses."""


@dataclass(frozen=True)
class Selection:
    """What a strategy selected.

    Attributes:
        strategy: the strategy and its parameters, as recorded in the masked model.
        filters: for each layer bool of shape (filters,): True for a filter that retrains.
        meaningless: for each layer bool of shape (maps,): True for an input map that means nothing to this layer.
        frozen: layers that stay frozen, of which nothing is in the selection.
    """

    strategy: Mapping[str, Any]
    filters: tuple[NDArray[np.bool_], ...]
    meaningless: tuple[NDArray[np.bool_], ...]
    frozen: Frozen = frozenset()


class RecordedSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="strategy"):
    """A selection as it is recorded; each strategy adds its parameters. See `tgdonnx.selection.recorded`."""

    mode: Literal["paper", "readers", "regrow", "adapter"]
    round: FromOne
    protect: bool = False
    freeze: Optional[Annotated[list[str], msgspec.Meta(min_length=1)]] = None
    chosen: Optional[str] = None
    reinitialization: Optional[Kind] = msgspec.field(name="rebirth", default=None)
    isolate: Optional[bool] = None
    seed: Optional[Count] = None
    reinitialized: Optional[Count] = msgspec.field(name="reborn", default=None)
    rows: Optional[Rows] = None
    samples: Optional[Count] = None
    change: Optional[float] = None
    rank: Optional[FromOne] = None


@dataclass(frozen=True)
class Said:
    """What else is said of a selection.

    Attributes:
        alpha: weight of the entropy in the KSE.
        k: number of nearest neighbours in the entropy.
        seed: of random selections.
    """

    alpha: float = DEFAULT_ALPHA
    k: int = DEFAULT_K
    seed: int = 0


Asked = TypeVar("Asked", bound=Strategy)
Recorded = TypeVar("Recorded", bound=RecordedSelection)


@dataclass(frozen=True)
class StrategyType(Generic[Asked, Recorded]):
    """A row of the table of strategies.

    Attributes:
        name: in records, of the option, and among the selections that are compared.
        strategy: what is asked for.
        recorded: what is recorded of it.
        select: carries it out, without layers that stay frozen. Raises `SelectionError`.
        restore: gives from the record what was asked for.
        describe: says in short what was asked for, from the record.
        told: says in a report what is selected; may name fields of the record in braces.
        takes: what the option takes.
        ask: makes it from that, and from what else was said.
        help: of the option.
        letter: what stands for the number in the name of a selection to compare; empty where there is none, None where it
            cannot be compared.
        regrows: whether what it selects can be reinitialised: single filters can, whole layers cannot.
    """

    name: str
    strategy: type[Asked]
    recorded: type[Recorded]
    select: Callable[[Provenance, Asked, Frozen], Selection]
    restore: Callable[[Recorded], Asked]
    describe: Callable[[Recorded], str]
    told: str
    takes: Literal["number", "count", "nothing", "filters"]
    ask: Callable[[Any, Said], Asked]
    help: str
    letter: Optional[str]
    regrows: bool


def record_of(name: str, strategy: Strategy) -> dict[str, Any]:
    """Returns a strategy with its parameters as plain numbers, to be written as JSON."""
    given = {key: value for key, value in asdict(strategy).items() if value is not None}  # type: ignore[call-overload]
    return {"strategy": name, **{key: _plain(value) for key, value in given.items()}}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
