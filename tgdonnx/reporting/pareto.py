"""New task against old task, one curve per selection: what each costs and what it brings, along the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tgdonnx.comparing import CompareReport, Entry, Spread
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import StrPath, replacing
from tgdonnx.finetuning.metrics import SMALLER_IS_BETTER, metric_of
from tgdonnx.reporting.blends import shown_metrics
from tgdonnx.reporting.legible import name
from tgdonnx.reporting.measures import titled
from tgdonnx.reporting.plots import new_figure, require_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito, in an order that keeps neighbours apart in lightness; markers and dashes tell curves apart without colour.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#999933")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES = ("-", "--", "-.", ":")
_GREY = "#666666"
_UNITS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "rmse": "RMSE", "accuracy": "accuracy", "dice": "Dice"}


def plot_compare(report: CompareReport, path: StrPath, *, overwrite: bool = False) -> None:
    """Draws a comparison. Better is up and to the right, whatever the metrics.

    Raises:
        DataError: the old task was not measured.
        OutputError: the suffix is unknown, or the file cannot be written.
        RuntimeMissingError: matplotlib is not installed.
    """
    path = require_plot(path, overwrite=overwrite)
    if report.old is None:
        raise DataError("a plot of the new task against the old needs data of the vendor's own task (`retain`)")
    figure = new_figure((8.4, 5.6))
    axes = figure.subplots()
    trained = [entry for entry in report.entries if entry.steps]
    names = [*dict.fromkeys(entry.name for entry in trained)]
    drawn: set[str] = set()
    for entry in trained:
        # Runs by several seeds have one colour, and one line of the legend.
        label = "" if entry.name in drawn else entry.name
        drawn.add(entry.name)
        _draw(axes, entry, names.index(entry.name), label=label, recommended=entry.name == report.recommended)
    for spread in report.spreads:
        if spread.name in names:
            _draw_spread(axes, spread, _COLOURS[names.index(spread.name) % len(_COLOURS)])
    start = trained[0].curve[0]
    if start.new is not None and start.old is not None:
        axes.plot([start.new], [start.old], "*", color="black", markersize=14, zorder=5, label="vendor's model")
        if report.retain_limit is not None:
            worse = report.retain_limit if metric_of(report.old) in SMALLER_IS_BETTER else -report.retain_limit
            limit = start.old + worse
            axes.axhline(limit, color=_GREY, linestyle=(0, (1, 2)), linewidth=1.2, label=f"limit ({limit:.4g})")
    whose = "vendor's own task" if report.labelled else "agreement with the vendor's output"
    axes.set_xlabel(f"new task, validation: {titled(report.new, _UNITS)}", parse_math=False)
    axes.set_ylabel(f"{whose}: {titled(report.old, _UNITS)}", parse_math=False)
    if metric_of(report.new) in SMALLER_IS_BETTER:
        axes.invert_xaxis()
    if metric_of(report.old) in SMALLER_IS_BETTER:
        axes.invert_yaxis()
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    within = " within the limit" if report.retain_limit is not None else ""
    title = f"Selections for {name(Path(report.model).name)}, {report.steps} steps each\nlarge: best{within}; outlined: last"
    if any(entry.blend is not None for entry in report.entries):
        title += "\ndotted: blends of the best; cross: the one chosen"
    if report.spreads:
        title += f"\nbars: mean and standard deviation of {max(len(each.seeds) for each in report.spreads)} seeds"
    figure.suptitle(title, fontsize=10, parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)


def _draw(axes: Axes, entry: Entry, number: int, *, label: str, recommended: bool) -> None:
    places = [(point.new, point.old) for point in entry.curve if point.new is not None and point.old is not None]
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    axes.plot(
        [new for new, _ in places],
        [old for _, old in places],
        color=colour,
        linestyle=_DASHES[number % len(_DASHES)],
        linewidth=2.2 if recommended else 1.2,
        marker=marker,
        markersize=3,
        label=f"{label} (recommended)" if recommended and label else label or "_",
    )
    _draw_blends(axes, entry, colour)
    for point, size, face in ((entry.best, 9, colour), (entry.last, 13, "none")):
        if point.new is not None and point.old is not None and point.step:
            axes.plot([point.new], [point.old], marker, color=colour, markersize=size, markerfacecolor=face, zorder=4)


def _draw_spread(axes: Axes, spread: Spread, colour: str) -> None:
    """Draws mean and standard deviation of several runs at their best points, as bars."""
    new, old = spread.new, spread.old
    if new.mean is None or old.mean is None:
        return
    across, up = new.deviation or 0.0, old.deviation or 0.0
    axes.errorbar(
        [new.mean], [old.mean], xerr=across, yerr=up, fmt="none", ecolor=colour, elinewidth=2, capsize=4, zorder=5
    )


def _draw_blends(axes: Axes, entry: Entry, colour: str) -> None:
    """Draws the blends of the best point: a thin line from the start to it, with a cross at the one that is chosen."""
    if entry.blend is None:
        return
    new, old = shown_metrics(entry.blend)
    if old is None:
        return
    places = [(p.validation[new], p.retain[old], p.blend == entry.blend.chosen) for p in entry.blend.curve]
    known = [(x, y, chosen) for x, y, chosen in places if x is not None and y is not None]
    axes.plot([x for x, _, _ in known], [y for _, y, _ in known], color=colour, linestyle=":", linewidth=0.9, zorder=1)
    for x, y, chosen in known:
        if chosen:
            axes.plot([x], [y], "x", color=colour, markersize=7, zorder=4)
