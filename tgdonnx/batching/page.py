"""A batch as one page that needs nothing else; links lead to what lies beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from urllib.parse import quote

import numpy as np

from tgdonnx.batching.records import RECORD, JobResult
from tgdonnx.batching.standing import Standing, measures_of, outliers_first, smaller_is_better, standings
from tgdonnx.reporting.figures import BLUE, GREY, ORANGE, one_plot, require_matplotlib
from tgdonnx.reporting.rendering import environment
from tgdonnx.versions import own_version

_MOST_LINES = 80  # jobs that a figure joins by lines
_MOST_ROWS = 200  # that are shown unfolded
_FEW_FAULTS = 50
_WIDE = 30  # values that differ by this factor are drawn on a logarithmic scale


@dataclass(frozen=True)
class MeasureFigure:
    """A measure over all jobs.

    Attributes:
        name: of the measure.
        svg: the figure; empty where there is nothing to draw.
        count: jobs that have it.
        before: the median of the vendor's models; None if it is not known.
        after: the median of the tuned ones.
        better: how many became better; None if that is not known.
        low: the tenth percentile of the tuned ones.
        high: the ninetieth.
        lines: whether the two values of every job are joined.
        logarithmic: whether the scale is.
    """

    name: str
    svg: str
    count: int
    before: Optional[float]
    after: float
    better: Optional[int]
    low: float
    high: float
    lines: bool
    logarithmic: bool


@dataclass(frozen=True)
class Row:
    """A job in the table: its result, how it stands, and links."""

    result: JobResult
    standing: Standing
    link: str
    files: tuple[tuple[str, str], ...]


def page_of(results: Sequence[JobResult], directory: Path) -> bytes:
    """Returns the page.

    Raises:
        RuntimeMissingError: jinja2 or matplotlib is not installed.
    """
    templates = environment()
    require_matplotlib()
    known = standings(results)
    measures = measures_of(results)
    ordered = outliers_first(results)
    text = templates.get_template("batch.html.j2").render(
        name=directory.resolve().name,
        results=results,
        measures=measures,
        figures=[figure for number, each in enumerate(measures) for figure in _figure(number, each, results, known)],
        failed=[each for each in ordered if each.state == "failed"],
        few_faults=_FEW_FAULTS,
        left=[each for each in results if each.state in ("stopped", "open")],
        outliers=[each for each in ordered if each.name in known and known[each.name].why],
        rows=[_row(each, known.get(each.name, Standing(0.0)), directory) for each in ordered if each.state == "done"],
        most_rows=_MOST_ROWS,
        version=own_version(),
    )
    return bytes(text.encode("utf-8", "replace"))


def _row(result: JobResult, standing: Standing, directory: Path) -> Row:
    named = (("page", result.report), ("tuned model", result.output), ("applied", result.applied))
    files = tuple((what, _link(path, directory)) for what, path in named if path is not None)
    record = _link(str(directory / result.name / RECORD), directory)
    link = _link(result.report, directory) if result.report is not None else f"{quote(result.name)}/"
    return Row(result, standing, link, (*files, ("record", record)))


def _link(path: str, directory: Path) -> str:
    return quote(os.path.relpath(path, directory).replace(os.sep, "/"))


def _figure(
    number: int, measure: str, results: Sequence[JobResult], known: Mapping[str, Standing]
) -> list[MeasureFigure]:
    """Draws the vendor's value and the tuned one of every job; nothing where no job has a number."""
    found = ((each.name, each.metrics.get(measure)) for each in results)
    after = {name: value for name, value in found if value is not None}
    before = {each.name: each.before.get(measure) for each in results if each.name in after}
    if not after:
        return []
    pairs = [(before[name], after[name], bool(known[name].why)) for name in after]
    values = np.array([pair[1] for pair in pairs], np.float64)
    starts = [pair[0] for pair in pairs if pair[0] is not None]
    sign = -1 if smaller_is_better(measure) else 1
    low, high = np.percentile(values, [10, 90])
    lines = len(pairs) <= _MOST_LINES
    all_values = [*starts, *values]
    logarithmic = min(all_values) > 0 and max(all_values) > _WIDE * min(all_values)
    return [
        MeasureFigure(
            measure,
            _drawn(f"measure{number}", pairs, lines=lines, logarithmic=logarithmic) if len(pairs) > 1 else "",
            len(pairs),
            float(np.median(starts)) if len(starts) == len(pairs) else None,
            float(np.median(values)),
            sum(sign * (end - start) > 0 for start, end, _ in pairs if start is not None) if starts else None,
            float(low),
            float(high),
            lines,
            logarithmic,
        )
    ]


def _drawn(name: str, pairs: Sequence[tuple[Optional[float], float, bool]], *, lines: bool, logarithmic: bool) -> str:
    # Side by side in the order of values, so that equal ones are seen; the same in every page.
    spread = np.zeros(len(pairs))
    spread[np.argsort([pair[1] for pair in pairs], kind="stable")] = np.linspace(-0.16, 0.16, len(pairs))
    size = 5 if len(pairs) <= 60 else 3 if len(pairs) <= 400 else 2
    with one_plot(name, ticks={0: "vendor's", 1: "tuned"}) as (axes, drawn):
        for far in (False, True):  # outliers last, on top
            chosen = [(x, start, end) for x, (start, end, out) in zip(spread, pairs) if out == far]
            if lines:
                for x, start, end in chosen:
                    if start is not None:
                        axes.plot([x, 1 + x], [start, end], color=ORANGE if far else GREY, linewidth=0.8, alpha=0.6)
            started = [(x, start) for x, start, _ in chosen if start is not None]
            colour = ORANGE if far else GREY
            axes.plot([x for x, _ in started], [y for _, y in started], ".", color=colour, markersize=size)
            colour = ORANGE if far else BLUE
            axes.plot([1 + x for x, _, _ in chosen], [end for _, _, end in chosen], ".", color=colour, markersize=size)
        axes.set_xlim(-0.4, 1.4)
        if logarithmic:
            axes.set_yscale("log")
    return drawn[0]
