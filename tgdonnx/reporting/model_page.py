"""A model as one HTML page to look through: its graph, and of every layer what would retrain, what is frozen, and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.files.model_file import StrPath, require_writable, write_bytes
from tgdonnx.files.outputs import Output, require_outputs
from tgdonnx.inspection import Inspected, LayerSummary
from tgdonnx.reporting import facts
from tgdonnx.reporting.filters import APART_UP_TO, Strip, path_of_cells, strip
from tgdonnx.reporting.histograms import Histogram, score_histograms
from tgdonnx.reporting.lanes import lines_of, path_of, width_of
from tgdonnx.reporting.model_rows import Row, rows_of
from tgdonnx.reporting.rendering import environment
from tgdonnx.reporting.tables import quantity

MOST_ROWS = 5000
"""A graph of more rows is not drawn; its layers are listed."""


@dataclass(frozen=True)
class Shown:
    """A layer as it is shown.

    Attributes:
        summary: what `tgdonnx.inspect` says of it.
        strip: its filters, and which of them retrain.
        always: path of the cells in which all filters are frozen whatever their score.
        histogram: of the scores of its input maps.
        macs: how much it computes, in words.
    """

    summary: LayerSummary
    strip: Strip
    always: str
    histogram: Histogram
    macs: str


@dataclass(frozen=True)
class ShownRow:
    """A row as it is shown.

    Attributes:
        row: what it is.
        layer: the layer, if it is one.
        sources: numbers and names of the rows that it reads.
        lane: where it stands.
        path: the lines beside it.
    """

    row: Row
    layer: Optional[Shown]
    sources: tuple[tuple[int, str], ...]
    lane: int
    path: str


def require_model_page(output: StrPath, *, overwrite: bool = False) -> Path:
    """Checks that a page can be made and written, before any work is done for it.

    Raises:
        OutputError: ``output`` cannot be written.
        RuntimeMissingError: jinja2 is not installed.
    """
    environment()
    return require_writable(output, overwrite=overwrite)


def write_model_page(inspected: Inspected, output: StrPath, next_command: str, *, overwrite: bool = False) -> int:
    """Writes the page of a model, which needs no network and no script.

    Args:
        inspected: the model.
        output: the page to write.
        next_command: what goes on from here, as a shell takes it.
        overwrite: whether it may exist.

    Returns:
        Its size in bytes.

    Raises:
        OutputError: the page cannot be written.
        RuntimeMissingError: jinja2 is not installed.
    """
    require_outputs([Output(Path(output))], [inspected.network.file], overwrite=overwrite)
    report, layers = inspected.report, _layers(inspected)
    found = rows_of(inspected.network.graph, tuple(inspected.network.layers))
    rows, lanes = _rows(found, layers) if len(found) <= MOST_ROWS else ((), 0)
    page = (
        environment()
        .get_template("model.html.j2")
        .render(
            report=report,
            name=Path(report.model).name,
            layers=layers,
            rows=rows,
            lanes=lanes,
            filters=sum(layer.filters for layer in report.layers),
            retrain=sum(layer.retrain for layer in report.layers),
            selection=None if report.selection is None else tuple(report.selection.items()),
            frozen=_counted(layer.frozen for layer in report.layers),
            verb="would retrain" if report.selection is None else "retrain",
            untraced=_counted(layer.untraced for layer in report.layers),
            apart_up_to=APART_UP_TO,
            next_command=next_command,
            now=facts.now(),
            version=metadata.version("tgdonnx"),
        )
    )
    encoded = page.encode("utf-8", "replace")
    write_bytes(output, encoded)
    return len(encoded)


def _layers(inspected: Inspected) -> tuple[Shown, ...]:
    report = inspected.report
    known = all(layer.macs is not None for layer in report.layers)
    histograms = score_histograms(inspected.scores, report.phi)
    return tuple(
        _shown(*each, known=known)
        for each in zip(report.layers, inspected.trains, (worth.values for worth in inspected.importance), histograms)
    )


def _shown(
    summary: LayerSummary,
    trains: NDArray[np.float64],
    values: NDArray[np.float64],
    histogram: Histogram,
    *,
    known: bool,
) -> Shown:
    drawn = strip(summary.node, summary.op_type, summary.weight or "", summary.shape, trains)
    always = (values == math.inf) & (trains == 0)
    starts = np.arange(0, len(always), max(drawn.per_cell, 1))
    cells = np.logical_and.reduceat(always, starts) if len(always) else always
    count = summary.macs if known and summary.macs is not None else summary.macs_per_position
    macs = f"{quantity(count)} multiply-accumulates per {'sample' if known else 'position of the output'}"
    return Shown(summary, drawn, path_of_cells(cells, apart=drawn.cells <= APART_UP_TO), histogram, macs)


def _rows(rows: Sequence[Row], layers: Sequence[Shown]) -> tuple[tuple[ShownRow, ...], int]:
    lines = lines_of([row.sources for row in rows])
    shown = tuple(
        ShownRow(
            row,
            layers[row.layer] if row.layer >= 0 else None,
            tuple((source, rows[source].name) for source in row.sources),
            beside.lane,
            path_of(beside),
        )
        for row, beside in zip(rows, lines)
    )
    return shown, width_of(lines)


def _counted(reasons: Iterable[dict[str, int]]) -> list[tuple[str, int]]:
    total: Counter[str] = Counter()
    for counts in reasons:
        total.update(counts)
    return total.most_common()
