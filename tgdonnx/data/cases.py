"""What people call a sample: a file, a row of a table, or a place in an array; and what a table says of it besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tgdonnx.data.matching import SampleSet


@dataclass(frozen=True)
class Case:
    """A sample.

    Attributes:
        name: what it is called.
        columns: of a table, what the columns say that no model is fed, by their names.
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)


def cases_of(sets: Sequence[SampleSet]) -> tuple[Case, ...]:
    """Returns the samples of groups, in order."""
    found = []
    for each in sets:
        for number in range(each.count):
            name = each.name if each.count == 1 else f"sample {number + 1}"
            found.append(
                Case(name if len(sets) == 1 or each.count == 1 else f"{each.name}, {name}", dict(each.columns))
            )
    return tuple(found)
