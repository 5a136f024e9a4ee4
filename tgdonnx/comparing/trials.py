"""What is tried, how often, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

from tgdonnx.cluster import Workers
from tgdonnx.comparing.candidates import Candidate
from tgdonnx.errors import SelectionError

MOST_SEEDS = 1000


@dataclass(frozen=True)
class Trials:
    """What is tried, how often, and where.

    Attributes:
        select: names of selections, see `tgdonnx.comparing.candidates`; a handful that fits the model, if None.
        seeds: how many runs there are of each: by the seed of the training options, and by those that follow it.
        workers: where they run; see `tgdonnx.cluster.open_cluster`. One after the other in this process, if None.

    Raises:
        SelectionError: ``seeds`` is out of range.
    """

    select: Optional[Sequence[str]] = None
    seeds: int = 1
    workers: Optional[Workers] = None

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise SelectionError(f"expected seeds between 1 and {MOST_SEEDS}, got {self.seeds}")

    @classmethod
    def of(cls, select: Union[Trials, Sequence[str], None]) -> Trials:
        """Returns what is tried where perhaps only names were given."""
        return select if isinstance(select, Trials) else cls(select)

    def repeated(self, candidates: Sequence[Candidate], seed: int) -> tuple[Candidate, ...]:
        """Returns the runs of selections: those by the first seed in their order, then those by the next.

        Args:
            candidates: the selections.
            seed: the first one.
        """
        more = range(seed + 1, seed + self.seeds)
        return (*candidates, *(replace(each, seed=other) for other in more for each in candidates))
