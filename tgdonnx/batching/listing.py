"""The table of a batch for the terminal: failures and outliers first, and of many jobs only those and the medians."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Optional

from rich import box
from rich.console import Console
from rich.table import Table

from tgdonnx.batching.batch import BatchReport
from tgdonnx.batching.records import JobResult
from tgdonnx.batching.standing import measures_of, outliers_first, standings
from tgdonnx.reporting.legible import cell, sentence

_MOST_ROWS = 30
_MOST_MEASURES = 3  # that a line has room for


def print_batch(report: BatchReport, console: Console) -> None:
    """Prints a row per job, what failed, and where the rest is to be read."""
    known, ordered = standings(report.jobs), outliers_first(report.jobs)
    done = [each for each in ordered if each.state == "done"]
    measures = measures_of(report.jobs)[:_MOST_MEASURES]
    if done:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
        table.add_column("job", overflow="fold", min_width=8)
        for measure in measures:
            table.add_column(measure, justify="right")
        table.add_column("steps", justify="right", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        for each in done[:_MOST_ROWS]:
            changes = [f"{_number(each.before.get(m))} → {_number(each.metrics.get(m))}" for m in measures]
            far = each.accepted is False or known[each.name].why
            row = [each.name, *changes, str(each.steps), f"{each.seconds:.3g} s"]
            table.add_row(*map(cell, row), style="yellow" if far else "dim" if each.earlier else None)
        if len(done) > 1:
            medians = [f"{_median(done, m, before=True)} → {_median(done, m, before=False)}" for m in measures]
            table.add_section()
            table.add_row(*map(cell, [f"median of {len(done):,}", *medians, "", ""]))
        console.print(table)
        if len(done) > _MOST_ROWS:
            console.print(sentence(f"{len(done) - _MOST_ROWS:,} more jobs are in {report.table}"))
        for each in [each for each in done if known[each.name].why][:_MOST_ROWS]:
            console.print(sentence(f"{each.name}: {known[each.name].why}", "yellow"), soft_wrap=True)
        for each in [each for each in done if each.accepted is False][:_MOST_ROWS]:
            console.print(sentence(f"{each.name} is NOT accepted by the criteria", "bold red"), soft_wrap=True)
    for each in report.failed[:_MOST_ROWS]:
        console.print(sentence(f"{each.name} failed: {each.error}", "red"), soft_wrap=True)
    if len(report.failed) > _MOST_ROWS:
        console.print(sentence(f"{len(report.failed) - _MOST_ROWS:,} more failed, see {report.table}", "red"))
    states = Counter("done before" if each.earlier else each.state for each in report.jobs)
    told = ", ".join(f"{count:,} {state}" for state, count in states.items())
    page = f" and {report.page}" if report.page is not None else "; a page needs the extra report"
    console.print(sentence(f"{len(report.jobs):,} jobs: {told}; {report.table}{page}"), soft_wrap=True)


def _median(done: Sequence[JobResult], measure: str, *, before: bool) -> str:
    found = [(each.before if before else each.metrics).get(measure) for each in done]
    numbers = [each for each in found if each is not None]
    return _number(statistics.median(numbers)) if numbers else "—"


def _number(value: Optional[float]) -> str:
    return "—" if value is None else f"{value:.4g}"
