"""The table of a comparison for the terminal."""

from __future__ import annotations

from typing import Optional

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tgdonnx.comparing import CompareReport, Entry, Measured
from tgdonnx.reporting.legible import cell, sentence
from tgdonnx.reporting.tables import quantity

_WIDE = 100  # columns; a narrower console is not told which fraction trains


def print_compare(report: CompareReport, console: Console) -> None:
    """Prints one row per selection, and below the table the recommended one and how to write its model."""
    wide = console.width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("selection", overflow="fold", min_width=12)
    for title in (*["trains"] * wide, "changed", "steps", "time", "best at"):
        table.add_column(title, justify="right", no_wrap=True)
    old = [f"old {report.old}", "last"] if report.old is not None else []
    for title in (f"new {report.new}", "last", *old):
        table.add_column(title, justify="right", no_wrap=True)
    for entry in report.entries:
        chosen = entry.name == report.recommended
        table.add_row(*_row(entry, report, wide=wide), style="bold green" if chosen else None)
    console.print(table)
    if report.spreads:
        console.print(_spreads(report))
        console.print(Text("Mean ± standard deviation over seeds, each run at its best point."))
    metric = f"New task: {report.new} of the validation data, where its loss is lowest"
    if report.retain_limit is not None:
        metric += f" with {report.old} within {report.retain_limit:g} of the start"
    metric += ", and at the last step."
    if report.old is not None:
        whose = "the vendor's own task" if report.labelled else "agreement with the vendor's outputs"
        metric += f" Old: {report.old} of {whose}, at the same places."
    console.print(Text(metric))
    for note in report.notes:
        console.print(sentence(note))
    console.print(sentence(f"recommended on this data: {report.recommended} ({report.reason})", "bold"))
    if report.call:
        console.print(sentence(f"write its model: `{report.call}`"), soft_wrap=True)


def _spreads(report: CompareReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("selection", overflow="fold", min_width=12)
    for title in ("seeds", "loss", f"new {report.new}", *([f"old {report.old}"] if report.old is not None else [])):
        table.add_column(title, justify="right", no_wrap=True)
    for spread in report.spreads:
        measured = (spread.loss, spread.new, *([spread.old] if report.old is not None else []))
        cells = [spread.name, str(len(spread.seeds)), *(_measured(each) for each in measured)]
        chosen = spread.name == report.recommended
        table.add_row(*map(cell, cells), style="bold green" if chosen else None)
    return table


def _measured(found: Measured) -> str:
    deviation = "" if found.deviation is None else f" ± {found.deviation:.2g}"
    return f"{_number(found.mean)}{deviation}"


def _row(entry: Entry, report: CompareReport, *, wide: bool) -> list[Text]:
    best, last = entry.best, entry.last
    title = f"{entry.name} ({entry.seed})" if report.spreads and entry.directory else entry.name
    cells = [title, *[f"{entry.rho:.1%}"] * wide, quantity(entry.changed), str(entry.steps)]
    cells += [f"{entry.seconds:.3g} s", str(best.step), _number(best.new), _number(last.new)]
    cells += [_number(best.old), _number(last.old)] if report.old is not None else []
    return [cell(text) for text in cells]


def _number(value: Optional[float]) -> str:
    return "inf" if value is None else f"{value:.4g}"
