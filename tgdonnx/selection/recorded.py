"""A selection as it is recorded, in masked models and in the records of rounds: read back, so that it can be carried out again.

One flat JSON object: ``strategy`` with its parameters, ``mode``, ``round`` (counted from 1), ``protect`` if what earlier rounds
trained stays as it is, ``freeze``, the names of layers that were to stay frozen, if there are any, ``chosen``, why, if tgdonnx
chose it, in mode ``regrow`` how filters were reinitialised, and ``rows``, which, and in mode ``adapter`` the ``rank`` of the
side paths and the ``seed`` of what they start with. Nothing else may be in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional, Union

import msgspec

from tgdonnx.selection.by_score import RecordedByScore
from tgdonnx.selection.strategies import STRATEGIES
from tgdonnx.selection.strategy import Count, FromOne, Kind, RecordedSelection, Rows, Strategy, StrategyType


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
    seed: Count
    reinitialized: Count = msgspec.field(name="reborn")
    rows: Rows
    samples: Optional[Count]
    change: float


class RecordedAdapter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which side paths were added.

    Attributes:
        rank: as it was asked for.
        seed: of the initial values.
    """

    rank: FromOne
    seed: Count


_MOST_NAMES = 4
_OF_MODES: Mapping[str, type[msgspec.Struct]] = {"regrow": RecordedReinitialization, "adapter": RecordedAdapter}

_AnyRecorded = Union[tuple(each.recorded for each in STRATEGIES)]  # type: ignore[valid-type]


def read_selection(content: Mapping[str, Any]) -> RecordedSelection:
    """Reads a recorded selection.

    Raises:
        ValueError: it is none, with the field that is wrong.
    """
    selection: RecordedSelection = msgspec.convert(content, _AnyRecorded)
    _require_own_fields(selection)
    if selection.protect and selection.mode == "regrow":
        raise ValueError("`protect` is true, but in mode regrow nothing is protected")
    if selection.mode == "regrow" and not _type_of(selection).regrows:
        raise ValueError("`mode` is regrow, but the selection is one of whole layers, which are not reinitialised")
    if selection.mode == "adapter" and _type_of(selection).regrows:
        raise ValueError(
            "`mode` is adapter, but the selection is one of single filters; side paths go beside whole layers"
        )
    return selection


def reinitialization_of(selection: RecordedSelection) -> Optional[RecordedReinitialization]:
    """Returns how filters were reinitialised; None in other modes.

    Raises:
        ValueError: that is missing.
    """
    if selection.mode != "regrow":
        return None
    return msgspec.convert(_given(selection, RecordedReinitialization), RecordedReinitialization)


def adapter_of(selection: RecordedSelection) -> Optional[RecordedAdapter]:
    """Returns which side paths were added; None in other modes.

    Raises:
        ValueError: that is missing.
    """
    if selection.mode != "adapter":
        return None
    return msgspec.convert(_given(selection, RecordedAdapter), RecordedAdapter)


def _given(selection: RecordedSelection, recorded: type[msgspec.Struct]) -> dict[str, Any]:
    names = zip(recorded.__struct_fields__, recorded.__struct_encode_fields__)
    return {key: getattr(selection, name) for name, key in names}


def _require_own_fields(selection: RecordedSelection) -> None:
    """Checks that what the mode needs is there, and nothing of other modes.

    Raises:
        ValueError: it is not so.
    """
    own = _given(selection, _OF_MODES[selection.mode]) if selection.mode in _OF_MODES else {}
    if own:
        msgspec.convert(own, _OF_MODES[selection.mode])
    for mode, recorded in _OF_MODES.items():
        wrong = [key for key, value in _given(selection, recorded).items() if value is not None and key not in own]
        if wrong:
            raise ValueError(f"`{wrong[0]}` is given, which is of mode {mode}; the mode is {selection.mode}")


def _type_of(selection: RecordedSelection) -> StrategyType[Any, Any]:
    return next(each for each in STRATEGIES if each.recorded is type(selection))


def strategy_of(selection: RecordedSelection) -> Strategy:
    """Returns the strategy that was carried out."""
    strategy: Strategy = _type_of(selection).restore(selection)
    return strategy


def frozen_by(selection: RecordedSelection) -> tuple[str, ...]:
    """Returns the names of the layers that were to stay frozen."""
    return tuple(selection.freeze or ())


def threshold_of(selection: RecordedSelection) -> Optional[float]:
    """Returns the phi below which filters were selected, as recorded; None if they were not selected by score."""
    return selection.phi if isinstance(selection, RecordedByScore) else None


def describe_selection(selection: RecordedSelection) -> str:
    """Says in short what was asked for."""
    told = _type_of(selection).describe(selection)
    protected = ", without what earlier rounds trained" if selection.protect else ""
    isolated = ", isolated" if selection.isolate else ""
    names = ", ".join(map(repr, frozen_by(selection)[:_MOST_NAMES]))
    more = len(frozen_by(selection)) - _MOST_NAMES
    frozen = f", {names}{f' and {more} more' if more > 0 else ''} frozen" if names else ""
    rank = f" of rank {selection.rank}" if selection.rank is not None else ""
    return f"{told}, mode {selection.mode}{rank}{isolated}{protected}{frozen}"


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
