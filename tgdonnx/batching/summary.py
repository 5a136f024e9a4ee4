"""What came of a batch, to read: ``summary.csv``, one row per job in their order, and ``summary.html``, outliers first."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from tgdonnx.batching.page import page_of
from tgdonnx.batching.planning import PAGE, TABLE
from tgdonnx.batching.records import JobResult
from tgdonnx.batching.standing import measures_of, standings
from tgdonnx.errors import RuntimeMissingError
from tgdonnx.files.model_file import write_bytes


def write_summary(directory: Path, results: Sequence[JobResult]) -> Optional[str]:
    """Writes table and page into the directory of a batch, where they are others than those that are there.

    Returns:
        The page; None where what makes pages is not installed.

    Raises:
        OutputError: they cannot be written.
    """
    write_if_other(directory / TABLE, table_of(results, directory))
    try:
        page = page_of(results, directory)
    except RuntimeMissingError:
        return None
    write_if_other(directory / PAGE, page)
    return str(directory / PAGE)


def write_if_other(path: Path, content: bytes) -> None:
    """Writes a file, unless it holds that already.

    Raises:
        OutputError: it cannot be written.
    """
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


def table_of(results: Sequence[JobResult], directory: Path) -> bytes:
    """Returns the table, CSV as RFC 4180 has it but for the ends of lines; paths are from the directory of the batch on."""
    measures, known = measures_of(results), standings(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    before = [f"{measure} before" for measure in measures]
    ends = ("steps", "seconds", "proof", "accepted", "output", "applied", "report")
    writer.writerow(["name", "state", "error", "outlier", *measures, *before, *ends])
    for each in results:
        why = known[each.name].why if each.name in known else ""
        accepted = "" if each.accepted is None else "yes" if each.accepted else "no"
        paths = ["" if path is None else os.path.relpath(path, directory) for path in _paths(each)]
        numbers = [*(each.metrics.get(m) for m in measures), *(each.before.get(m) for m in measures)]
        row = [each.name, each.state, each.error, why, *("" if n is None else f"{n:.9g}" for n in numbers)]
        writer.writerow([*row, each.steps, f"{each.seconds:.3f}", each.proof or "", accepted, *paths])
    return text.getvalue().encode("utf-8", "replace")


def _paths(result: JobResult) -> tuple[Optional[str], ...]:
    return result.output, result.applied, result.report
