"""What `verify` found, in words: the same ones in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator

from tgdonnx.reporting import legible
from tgdonnx.reporting.tables import ranges
from tgdonnx.verifying.verification import VerifyReport

_MOST_TENSORS = 8
_LONGEST = 60


def headline(report: VerifyReport) -> str:
    """Says of files that pass what was proved, and by what."""
    if report.proof == "identical" and report.gate is not None:
        return (
            "both networks in the file are the vendor's, byte for byte: nothing was retrained, and no record is needed"
        )
    if report.proof == "identical":
        return "the files are the same, byte for byte: nothing was retrained, and no record is needed"
    filters = sum(len(entry.filters) for entry in report.changed)
    words = {
        "recomputed": "the masks were computed again from the vendor's file",
        "listed": "the masks are those of the list that was given",
        "recorded": "in part, the evidence's own word is taken",
    }
    where = f"{filters:,} rows of {len(report.changed):,} tensors"
    found = f"nothing differs but {where}"
    if report.added:
        found = f"nothing is added but side paths, of {len(report.added):,} tensors"
        if any(entry.name not in report.added for entry in report.changed):
            found += f", and with theirs nothing differs but {where}"
    return f"{found}, by {report.evidence}; {words[str(report.proof)]}"


def sentences(report: VerifyReport) -> tuple[str, ...]:
    """Says what is proved of each round, and what is not of the data; of files that are the same, that they are."""
    gate = () if report.gate is None else (f"gated: {report.gate}",)
    if report.proof == "identical":
        return (headline(report), *gate)
    return (*(f"round {proof.round}: {proof.sentence}" for proof in report.rounds), *report.told, *gate)


def changes(report: VerifyReport, *, whole: bool) -> Iterator[str]:
    """Says which rows of which tensors changed: all, or as many as one can take in.

    Args:
        report: what was found.
        whole: whether to name all.
    """
    shown = report.changed if whole else report.changed[:_MOST_TENSORS]
    for entry in shown:
        rows = ranges(entry.filters)
        if len(rows) > _LONGEST and not whole:
            rows = f"{rows[:_LONGEST].rpartition(',')[0]}, ... {entry.filters[-1]}"
        yield f"{legible.name(entry.name)}: {len(entry.filters):,} {'filter' if len(entry.filters) == 1 else 'filters'}, {rows}"
    left = report.changed[len(shown) :]
    if left:
        rows_left = sum(len(entry.filters) for entry in left)
        yield f"and {rows_left:,} filters of {len(left):,} more tensors; `whole=True` names all"
