"""The selections to compare, by the names that a user gives them.

A name is a selection, of those in `SELECTIONS`, and behind it any of the regularisers ``+l2sp`` and ``+agree``:

    tgd, tgd-readers                    phi by the drop test, masks per filter, or per kernel (mode ``readers``)
    regrow, regrow-isolate              the same phi, with filters reinitialised (mode ``regrow``), and isolated
    phi:P, phi-readers:P ...            the same with a phi of the user's
    percentile:Q, percentile-readers:Q ...  by the lowest Q % of the scores of all traced maps
    last:N, first:N, all                whole layers
    none                                the vendor's model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Optional

from tgdonnx.errors import SelectionError
from tgdonnx.selection import AllLayers, FirstLayers, LastLayers, Mode, Percentile, Phi, Strategy

Kind = Literal["tgd", "phi", "percentile", "last", "first", "all", "none"]
Regulariser = Literal["l2sp", "agree"]
SELECTIONS = (
    "tgd",
    "tgd-readers",
    "regrow",
    "regrow-isolate",
    "phi:P",
    "phi-readers:P",
    "phi-regrow:P",
    "phi-regrow-isolate:P",
    "percentile:Q",
    "percentile-readers:Q",
    "percentile-regrow:Q",
    "percentile-regrow-isolate:Q",
    "last:N",
    "first:N",
    "all",
    "none",
)
REGULARISERS: tuple[Regulariser, ...] = ("l2sp", "agree")
DEFAULT_SELECTIONS = ("none", "tgd", "tgd-readers", "percentile:10", "last:3", "first:2", "all")
NONE = "none"

_ISOLATE = "-isolate"
_KINDS: dict[str, tuple[Kind, Mode]] = {
    "tgd": ("tgd", "paper"),
    "tgd-readers": ("tgd", "readers"),
    "regrow": ("tgd", "regrow"),
    "phi": ("phi", "paper"),
    "phi-readers": ("phi", "readers"),
    "phi-regrow": ("phi", "regrow"),
    "percentile": ("percentile", "paper"),
    "percentile-readers": ("percentile", "readers"),
    "percentile-regrow": ("percentile", "regrow"),
    "last": ("last", "paper"),
    "first": ("first", "paper"),
    "all": ("all", "paper"),
    "none": ("none", "paper"),
}
_WHOLE: frozenset[Kind] = frozenset({"last", "first"})
_NUMBERED: frozenset[Kind] = frozenset({"phi", "percentile", *_WHOLE})


@dataclass(frozen=True)
class Candidate:
    """One selection to compare.

    Attributes:
        name: as the user gave it.
        kind: how filters are selected.
        mode: masks per filter or per kernel, or filters reinitialised.
        isolate: whether reinitialised filters are isolated.
        number: phi, percentile, or number of layers; None where there is none.
        regularisers: what holds it near the vendor's model.
    """

    name: str
    kind: Kind
    mode: Mode
    isolate: bool
    number: Optional[float]
    regularisers: frozenset[Regulariser]

    @property
    def folder(self) -> str:
        """The name of its directory; a colon is no part of file names everywhere."""
        return self.name.replace(":", "-")

    def strategy(self, recommended: Optional[Strategy]) -> Strategy:
        """Returns what selects its filters.

        Args:
            recommended: what ``tgd`` stands for; None where no candidate is that.
        """
        assert self.kind != "none"
        if self.kind == "tgd":
            assert recommended is not None
            return recommended
        if self.kind == "all":
            return AllLayers()
        assert self.number is not None
        if self.kind == "phi":
            return Phi(self.number)
        if self.kind == "percentile":
            return Percentile(self.number)
        return LastLayers(int(self.number)) if self.kind == "last" else FirstLayers(int(self.number))


def parse_candidates(names: Sequence[str]) -> tuple[Candidate, ...]:
    """Reads names of selections.

    Raises:
        SelectionError: one is unknown, lacks its number, or is given twice; or nothing would be trained.
    """
    candidates = tuple(_parse(name.strip()) for name in names)
    seen: set[tuple[object, ...]] = set()
    for candidate in candidates:
        key = (candidate.kind, candidate.mode, candidate.isolate, candidate.number, candidate.regularisers)
        if key in seen:
            raise SelectionError(f"{candidate.name!r} is given twice; leave one out")
        seen.add(key)
    if all(candidate.kind == "none" for candidate in candidates):
        raise SelectionError("expected selections to compare with the vendor's model, such as tgd,last:3,all")
    return candidates


def _parse(name: str) -> Candidate:
    base, *regularisers = name.split("+")
    word, colon, text = base.partition(":")
    plain = word[: -len(_ISOLATE)] if word.endswith(_ISOLATE) else word
    if plain not in _KINDS or (plain != word and _KINDS[plain][1] != "regrow"):
        raise SelectionError(f"unknown selection {name!r}; expected {', '.join(SELECTIONS)}, or one of them {_WITH}")
    kind, mode = _KINDS[plain]
    for regulariser in regularisers:
        if regulariser not in REGULARISERS or regularisers.count(regulariser) > 1:
            raise SelectionError(f"unknown regulariser in {name!r}; expected a selection {_WITH}")
    if kind == "none" and regularisers:
        raise SelectionError(f"{name!r}: nothing trains, so nothing can be regularised; leave {regularisers[0]} out")
    number = _number(name, word, kind, text) if colon or kind in _NUMBERED else None
    return Candidate(name, kind, mode, plain != word, number, frozenset(r for r in REGULARISERS if r in regularisers))


_WITH = f"with {' or '.join('+' + regulariser for regulariser in REGULARISERS)}"


def _number(name: str, word: str, kind: Kind, text: str) -> float:
    if kind not in _NUMBERED:
        raise SelectionError(f"{name!r}: {word} takes no number; leave it out")
    try:
        number = int(text) if kind in _WHOLE else float(text)
    except ValueError:
        example = {"phi": "phi:0.3", "percentile": "percentile:10"}.get(kind, f"{word}:2")
        raise SelectionError(f"{name!r}: expected a number behind a colon, such as {example}") from None
    return float(number)
