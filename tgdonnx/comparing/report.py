"""What came of a comparison; it is also a part of ``comparison.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tgdonnx.calls import call
from tgdonnx.comparing.choosing import Entry
from tgdonnx.comparing.spreads import Spread
from tgdonnx.presenting import Presented

ARTIFACTS = "artifacts"  # of a selection, in its directory


@dataclass(frozen=True, repr=False)
class CompareReport(Presented):
    """Several selections, compared.

    Attributes:
        model: the vendor's file.
        directory: where everything is.
        steps: steps of every run.
        new: the metric that the new task is shown by.
        old: the same for the vendor's own task; None if that is not measured.
        labelled: whether the vendor's own task has targets; if not, ``old`` is agreement with the vendor's outputs.
        retain_limit: the largest fall of ``old`` that is accepted; None for any.
        entries: one for each run: in the order asked for, by the first seed, then by the next.
        recommended: the name of the selection with the lowest validation loss within the limit; by several seeds, with the
            lowest mean.
        reason: the same in words.
        call: what writes its tuned model, by several seeds that of the lowest loss; empty for the vendor's own.
        notes: what a reader should know.
        spreads: of each selection, where there are runs by several seeds; empty where there is one.
    """

    model: str
    directory: str
    steps: int
    new: str
    old: Optional[str]
    labelled: bool
    retain_limit: Optional[float]
    entries: tuple[Entry, ...]
    recommended: str
    reason: str
    call: str
    notes: tuple[str, ...]
    spreads: tuple[Spread, ...] = ()


def export_call(directory: str) -> str:
    """Returns what writes the tuned model of a selection.

    Args:
        directory: of the selection.
    """
    return call("export", Path(directory, ARTIFACTS), options={"output": "tuned.onnx"})
