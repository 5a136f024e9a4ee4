"""Lines beside rows that tell which row reads which, as logs of versions have them.

What a row gives takes a lane from there to its last reader; a reader stands in the lane of what ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Lines:
    """The lines beside one row.

    Attributes:
        lane: where the row stands.
        passing: the lanes that pass by.
        joining: the lanes from above that it reads.
        goes_on: whether a row below reads it.
    """

    lane: int
    passing: tuple[int, ...]
    joining: tuple[int, ...]
    goes_on: bool


def lines_of(sources: Sequence[Sequence[int]]) -> list[Lines]:
    """Returns the lines beside rows.

    Args:
        sources: for each row the rows above that it reads, each once.
    """
    left = [0] * len(sources)
    for read in sources:
        for source in read:
            left[source] += 1
    taken: dict[int, int] = {}  # by lane the row that gives what is in it
    found = []
    for row, read in enumerate(sources):
        lane_of = {source: lane for lane, source in taken.items()}
        joining = sorted(lane_of[source] for source in read)
        for source in read:
            left[source] -= 1
        ended = [lane for lane in joining if not left[taken[lane]]]
        for lane in ended:
            del taken[lane]
        lane = ended[0] if ended else next(free for free in range(len(taken) + 1) if free not in taken)
        passing = tuple(sorted(taken))
        if left[row]:
            taken[lane] = row
        found.append(Lines(lane, passing, tuple(joining), bool(left[row])))
    return found


def width_of(lines: Sequence[Lines]) -> int:
    """Returns how many lanes there are."""
    return max((max((each.lane, *each.passing, *each.joining)) + 1 for each in lines), default=0)


def path_of(lines: Lines) -> str:
    """Returns the lines as a path of SVG in a box in which a lane is 2 wide and the row 2 high, standing at 1."""
    x = 2 * lines.lane + 1
    passing = "".join(f"M{2 * lane + 1} 0V2" for lane in lines.passing)
    joining = "".join(f"M{2 * lane + 1} 0L{x} 1" for lane in lines.joining)
    return passing + joining + (f"M{x} 1V2" if lines.goes_on else "")
