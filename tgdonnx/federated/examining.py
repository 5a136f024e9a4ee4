"""What a site sent, checked: what does not fit is refused with a reason, and the round goes on without it.

Checked is what can be: that artifacts are the server's, that numbers are there, of the right shapes and finite, and that it has
samples. Whether numbers within that are honest nobody can tell from one site; a strategy of Flower's that is robust can weigh
them against those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from numpy.typing import NDArray

from tgdonnx.federated.travelling import Fingerprint, Travelling
from tgdonnx.records import PreparationPart

_MOST_SAMPLES = 2**53


@dataclass(frozen=True)
class Sent:
    """What a site sent of a round, as it sent it.

    Attributes:
        name: what it calls itself.
        own: what artifacts it has.
        numbers: arrays by name.
        samples: how many it trained on.
        loss: the mean over its steps.
        steps: how many it did.
        classes: names of what the output tells apart.
        preparation: how its data was prepared.
    """

    name: str
    own: Fingerprint
    numbers: Mapping[str, NDArray[Any]] = field(repr=False)
    samples: Any
    loss: float
    steps: int
    classes: tuple[str, ...] = ()
    preparation: Optional[PreparationPart] = None


@dataclass(frozen=True)
class Refusal:
    """A site whose answer does not count.

    Attributes:
        site: what it calls itself; where that is not known, the number of its node.
        reason: why.
    """

    site: str
    reason: str


def refusal_of(sent: Sent, numbers_of: Travelling, wanted: Fingerprint) -> str:
    """Says why what a site sent does not count; empty where it does."""
    if not 1 <= len(sent.name) <= 100:
        return f"a name of {len(sent.name)} characters, expected 1 to 100"
    other = wanted.difference(sent.own)
    if other:
        return f"it has {other}"
    problem = numbers_of.problem(sent.numbers)
    if problem:
        return f"it sent {problem}"
    samples = sent.samples
    if isinstance(samples, bool) or not isinstance(samples, int) or not 1 <= samples <= _MOST_SAMPLES:
        return f"it says that it has {samples!r} samples"
    return ""


def twice(names: Sequence[str]) -> frozenset[str]:
    """Returns the names that several sites call themselves by."""
    return frozenset(name for name in names if names.count(name) > 1)
