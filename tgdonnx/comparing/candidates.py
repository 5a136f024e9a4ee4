"""The selections to compare, by the names that a user gives them.

A name is a selection, of those in `SELECTIONS`, and behind it any of the regularisers ``+l2sp`` and ``+agree``:

    tgd, tgd-readers                    phi by the drop test, masks per filter, or per kernel (mode ``readers``)
    regrow, regrow-isolate              the same phi, with filters reinitialised (mode ``regrow``), and isolated
    phi:P, phi-readers:P ...            the same with a phi of the user's
    percentile:Q, percentile-readers:Q ...  by the lowest Q % of the scores of all traced maps
    last:N, first:N, all                whole layers
    steepest:F, fisher:F, random:F ...  single filters that hold the fraction F of the weights, by the gradient on the new data,
                                        or at random
    adapter, adapter:R                  side paths beside all layers, of rank R (mode ``adapter``)
    none                                the vendor's model
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional

from tgdonnx.adapting import Adapter
from tgdonnx.bounds import MAPS
from tgdonnx.errors import SelectionError
from tgdonnx.selection import MODES, STRATEGIES, AllLayers, Mode, Said, Strategy, StrategyType

Regulariser = Literal["l2sp", "agree"]
REGULARISERS: tuple[Regulariser, ...] = ("l2sp", "agree")
DEFAULT_SELECTIONS = ("none", "tgd", "tgd-readers", "percentile:10", "last:3", "first:2", "all")
NONE, ADAPTER = "none", "adapter"

_ISOLATE = "-isolate"
_TGD: dict[str, Mode] = {"tgd": "paper", "tgd-readers": "readers", "regrow": "regrow"}
_COMPARED = {each.name: each for each in STRATEGIES if each.letter is not None}


def _named(each: StrategyType[Any, Any], mode: Mode) -> str:
    """Returns the name of a strategy with masks of some mode."""
    return each.name if mode == "paper" else f"{each.name}-{mode}"


_WORDS: dict[str, tuple[str, Mode]] = {
    **{word: ("tgd", mode) for word, mode in _TGD.items()},
    **{
        _named(each, mode): (each.name, mode)
        for each in _COMPARED.values()
        for mode in MODES
        if mode == "paper" or (each.regrows and mode != ADAPTER)
    },
    ADAPTER: (ADAPTER, "adapter"),
    NONE: (NONE, "paper"),
}
"""For every word that may begin a name, what selects and the mode of the masks."""


def _shown() -> Iterator[str]:
    for word, (kind, mode) in _WORDS.items():
        letter = _COMPARED[kind].letter if kind in _COMPARED else ""
        number = f":{letter}" if letter else ""
        yield f"{word}{number}"
        if mode == ADAPTER:
            yield f"{word}:R"
        if mode == "regrow":
            yield f"{word}{_ISOLATE}{number}"


SELECTIONS = tuple(_shown())


@dataclass(frozen=True)
class Candidate:
    """One selection to compare.

    Attributes:
        name: as the user gave it.
        kind: how filters are selected: ``tgd``, ``none``, ``adapter`` for none, beside side paths, or the name of a strategy.
        mode: masks per filter or per kernel, filters reinitialised, or side paths.
        isolate: whether reinitialised filters are isolated.
        number: phi, percentile, fraction of the weights, number of layers, or rank of side paths; None where there is none.
        regularisers: what holds it near the vendor's model.
        seed: of a further run of it; None for the run by the seed of the comparison.
    """

    name: str
    kind: str
    mode: Mode
    isolate: bool
    number: Optional[float]
    regularisers: frozenset[Regulariser]
    seed: Optional[int] = None

    @property
    def folder(self) -> str:
        """The name of its directory; a colon is no part of file names everywhere."""
        return self.name.replace(":", "-") + ("" if self.seed is None else f".seed-{self.seed}")

    @property
    def title(self) -> str:
        """Its name, and of a further run its seed."""
        return self.name if self.seed is None else f"{self.name} (seed {self.seed})"

    def strategy(self, recommended: Optional[Strategy], seed: int = 0) -> Strategy:
        """Returns what selects its filters.

        Args:
            recommended: what ``tgd`` stands for; None where no candidate is that.
            seed: of a random selection.
        """
        if self.kind == "tgd":
            assert recommended is not None
            return recommended
        if self.kind == ADAPTER:
            return AllLayers()
        asked = _COMPARED[self.kind]
        number = int(self.number) if asked.takes == "count" and self.number is not None else self.number
        made: Strategy = asked.ask(number, Said(seed=seed))
        return made

    def adapter(self, seed: int) -> Adapter:
        """Returns which side paths are added, in mode ``adapter``; ``seed`` is of their initial values."""
        return Adapter(seed=seed) if self.kind != ADAPTER or self.number is None else Adapter(int(self.number), seed)


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
            raise SelectionError(f"{candidate.name!r} is given twice", remedy="leave one out")
        seen.add(key)
    if all(candidate.kind == "none" for candidate in candidates):
        raise SelectionError("expected selections to compare with the vendor's model, such as tgd,last:3,all")
    return candidates


def _parse(name: str) -> Candidate:
    base, *regularisers = name.split("+")
    word, colon, text = base.partition(":")
    plain = word[: -len(_ISOLATE)] if word.endswith(_ISOLATE) else word
    if plain not in _WORDS or (plain != word and _WORDS[plain][1] != "regrow"):
        raise SelectionError(f"unknown selection {name!r}; expected {', '.join(SELECTIONS)}, or one of them {_WITH}")
    kind, mode = _WORDS[plain]
    asked = _COMPARED.get(kind)
    is_numbered = asked is not None and asked.takes != "nothing"
    for regulariser in regularisers:
        if regulariser not in REGULARISERS or regularisers.count(regulariser) > 1:
            raise SelectionError(f"unknown regulariser in {name!r}; expected a selection {_WITH}")
    if kind == "none" and regularisers:
        raise SelectionError(
            f"{name!r}: nothing trains, so nothing can be regularised", remedy=f"leave {regularisers[0]} out"
        )
    if kind == ADAPTER:
        number = _rank(name, text) if colon else None
    else:
        number = _number(name, word, asked, text) if colon or is_numbered else None
    return Candidate(name, kind, mode, plain != word, number, frozenset(r for r in REGULARISERS if r in regularisers))


_EXAMPLES = {"P": "0.3", "Q": "10", "F": "0.1"}
_WITH = f"with {' or '.join('+' + regulariser for regulariser in REGULARISERS)}"


def _rank(name: str, text: str) -> float:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAPS):
        raise SelectionError(
            f"{name!r}: expected the rank of side paths behind the colon, a whole number of at least 1, such as adapter:4"
        )
    return float(text)


def _number(name: str, word: str, asked: Optional[StrategyType[Any, Any]], text: str) -> float:
    if asked is None or asked.takes == "nothing":
        raise SelectionError(f"{name!r}: {word} takes no number", remedy="leave it out")
    try:
        number = int(text) if asked.takes == "count" else float(text)
    except ValueError:
        example = f"{word}:{_EXAMPLES.get(asked.letter or '', '2')}"
        raise SelectionError(f"{name!r}: expected a number behind a colon, such as {example}") from None
    return float(number)
