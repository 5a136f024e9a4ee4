"""A selection as it is recorded, in masked models and in the records of rounds: read back, so that it can be carried out again.

One flat JSON object: ``strategy`` with its parameters, ``mode``, ``round`` (counted from 1), ``protect`` if what earlier rounds
trained stays as it is, and in mode ``regrow`` how filters were reinitialised, and ``rows``, which. Nothing else may be in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Optional, Union

import msgspec

from tgdonnx.selection.strategies import (
    AllLayers,
    Filters,
    FirstLayers,
    LastLayers,
    Percentile,
    Phi,
    Strategy,
)

Kind = Literal["clone", "he", "calibrated"]
KINDS: tuple[Kind, ...] = ("clone", "he", "calibrated")
Rows = dict[str, list[Annotated[int, msgspec.Meta(ge=0)]]]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_FromOne = Annotated[int, msgspec.Meta(ge=1)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class RecordedReinitialization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How filters were reinitialised.

    Attributes:
        reinitialization: where initial values come from.
        isolate: whether useful filters never read reinitialised maps.
        seed: of all random numbers.
        reinitialized: how many filters are.
        rows: which: for names of weights, their rows.
        samples: on how many images the change of the output was measured; None for random input.
        change: how far the output moved.
    """

    reinitialization: Kind = msgspec.field(name="rebirth")
    isolate: bool
    seed: _Count
    reinitialized: _Count = msgspec.field(name="reborn")
    rows: Rows
    samples: Optional[_Count]
    change: float


class _Selected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="strategy"):
    mode: Literal["paper", "readers", "regrow"]
    round: _FromOne
    protect: bool = False
    reinitialization: Optional[Kind] = msgspec.field(name="rebirth", default=None)
    isolate: Optional[bool] = None
    seed: Optional[_Count] = None
    reinitialized: Optional[_Count] = msgspec.field(name="reborn", default=None)
    rows: Optional[Rows] = None
    samples: Optional[_Count] = None
    change: Optional[float] = None


class _Phi(_Selected, frozen=True, tag="phi"):
    phi: Annotated[float, msgspec.Meta(ge=0, le=1)]
    alpha: _NotNegative
    k: _FromOne
    tolerance: Optional[_NotNegative] = None


class _Percentile(_Selected, frozen=True, tag="percentile"):
    percentile: Annotated[float, msgspec.Meta(ge=0, le=100)]
    alpha: _NotNegative
    k: _FromOne
    phi: _NotNegative


class _Last(_Selected, frozen=True, tag="last"):
    last: _FromOne


class _First(_Selected, frozen=True, tag="first"):
    first: _FromOne


class _All(_Selected, frozen=True, tag="all"):
    pass


class _Listed(_Selected, frozen=True, tag="filters"):
    filters: Rows


RecordedSelection = Union[_Phi, _Percentile, _Last, _First, _All, _Listed]


def read_selection(content: Mapping[str, Any]) -> RecordedSelection:
    """Reads a recorded selection.

    Raises:
        ValueError: it is none, with the field that is wrong.
    """
    selection: RecordedSelection = msgspec.convert(content, RecordedSelection)
    reinitialization_of(selection)
    if selection.protect and selection.mode == "regrow":
        raise ValueError("`protect` is true, but in mode regrow nothing is protected")
    if selection.mode == "regrow" and not isinstance(selection, (_Phi, _Percentile, _Listed)):
        raise ValueError("`mode` is regrow, but the selection is one of whole layers, which are not reinitialised")
    return selection


def reinitialization_of(selection: RecordedSelection) -> Optional[RecordedReinitialization]:
    """Returns how filters were reinitialised; None in other modes.

    Raises:
        ValueError: that is missing, or given in another mode.
    """
    recorded = RecordedReinitialization
    names = zip(recorded.__struct_fields__, recorded.__struct_encode_fields__)
    given = {key: getattr(selection, name) for name, key in names}
    if selection.mode == "regrow":
        return msgspec.convert(given, recorded)
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise ValueError(f"`{wrong[0]}` is given, which is of mode regrow; the mode is {selection.mode}")
    return None


def strategy_of(selection: RecordedSelection) -> Strategy:
    """Returns the strategy that was carried out."""
    if isinstance(selection, _Phi):
        return Phi(selection.phi, selection.alpha, selection.k, selection.tolerance)
    if isinstance(selection, _Percentile):
        return Percentile(selection.percentile, selection.alpha, selection.k)
    if isinstance(selection, _Last):
        return LastLayers(selection.last)
    if isinstance(selection, _First):
        return FirstLayers(selection.first)
    return Filters(selection.filters) if isinstance(selection, _Listed) else AllLayers()


def threshold_of(selection: RecordedSelection) -> Optional[float]:
    """Returns the phi below which filters were selected, as recorded; None if they were not selected by score."""
    return selection.phi if isinstance(selection, (_Phi, _Percentile)) else None


def describe_selection(selection: RecordedSelection) -> str:
    """Says in short what was asked for."""
    if isinstance(selection, _Phi):
        told = f"phi {selection.phi:g}" + (" (as --phi auto found it)" if selection.tolerance is not None else "")
    elif isinstance(selection, _Percentile):
        told = f"percentile {selection.percentile:g}"
    elif isinstance(selection, _Last):
        told = f"the last {selection.last} layers"
    elif isinstance(selection, _First):
        told = f"the first {selection.first} layers"
    else:
        told = "a list of filters" if isinstance(selection, _Listed) else "all layers"
    protected = ", without what earlier rounds trained" if selection.protect else ""
    isolated = ", isolated" if selection.isolate else ""
    return f"{told}, mode {selection.mode}{isolated}{protected}"


def read_strict(text: str) -> Any:
    """Parses JSON that `json.dumps` wrote: no key twice, no NaN, nothing between the parts but what that puts there.

    Raises:
        ValueError: it is no such text.
    """
    try:
        content = json.loads(text)
        again = json.dumps(content, allow_nan=False)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if again != text:
        raise ValueError("it is not written as tgdonnx writes it: a key is there twice, or something was added")
    return content
