"""What is told of applying a model: how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from tgdonnx.applying.deciding import GateDecision
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.presenting import Presented


@dataclass(frozen=True)
class ApplyProgress:
    """How far it is: the model ran ``done`` of ``total`` times, of a table pictures; ``case`` is what it runs on."""

    done: int
    total: int
    case: str


@dataclass(frozen=True)
class Result:
    """A result that was written.

    Attributes:
        case: the file or series that it is made from.
        output: the file; of a DICOM series, the directory.
        name: the output of the model.
        shape: of the result.
        dtype: of the values that were computed.
        low: the least of them; None where there are none.
        high: the largest.
        clipped: how many the file cannot hold, so that the nearest that it can stands for them.
        error: by how much others may differ in the file, which holds whole numbers.
        gate: of a gated model with a detector, what that decided; it is written beside the result as well.
    """

    case: str
    output: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    low: Optional[float]
    high: Optional[float]
    clipped: int = 0
    error: float = 0.0
    gate: Optional[GateDecision] = None


@dataclass(frozen=True, repr=False)
class ApplyReport(Presented):
    """What was computed.

    Attributes:
        output: the file or directory; None where results are handed over.
        shape: of the first result; of a table, how many rows it has.
        dtype: of the first result; ``csv`` of a table.
        tiles: how many tiles a sample of it was computed from.
        overlap: of neighbouring tiles, by axis of space; empty where there was one tile.
        whole: why the model ran on whole images only; None if it need not.
        remarks: what was done to the data, and what is worth knowing.
        gate: of a gated model with a detector, what that decided of the first.
        results: all of them, in order; none of a table.
        arrays: by output, where they are not written.
    """

    output: Optional[str]
    shape: tuple[int, ...]
    dtype: str
    tiles: int
    overlap: tuple[int, ...]
    whole: Optional[str]
    remarks: tuple[str, ...]
    gate: Optional[GateDecision] = None
    results: tuple[Result, ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)


class Counter:
    """Counts runs of the model, and shows them."""

    def __init__(self, show: Callable[[ApplyProgress], None], total: int, case: str) -> None:
        """Begins; ``total`` runs are expected, of ``case`` the first."""
        self._show, self._total, self._done = show, total, 0
        self.case = case

    def step(self) -> None:
        """Counts one."""
        self._done += 1
        self._show(ApplyProgress(self._done, self._total, self.case))
