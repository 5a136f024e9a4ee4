"""Plots, one function each, drawn with matplotlib (extra ``report``) into a file whose suffix says the format.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; lines differ in marker and dash as well,
so that they survive a black-and-white printer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tgdonnx.errors import OutputError
from tgdonnx.files.model_file import StrPath, replacing, require_writable
from tgdonnx.files.outputs import Output, require_outputs
from tgdonnx.reporting.drawing import load_matplotlib
from tgdonnx.reporting.legible import name
from tgdonnx.sweeping import SweepReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
_BLUE, _ORANGE, _GREEN, _RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
_GREY = "#666666"


def require_plot(path: StrPath, *, overwrite: bool = False) -> Path:
    """Checks that a plot can be drawn and written, before any work is done for it.

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
        RuntimeMissingError: matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"expected a file name that ends in {', '.join(SUFFIXES)}; got {path.name!r}")
    load_matplotlib()
    return require_writable(path, overwrite=overwrite)


def plot_sweep(report: SweepReport, path: StrPath, *, overwrite: bool = False) -> None:
    """Draws change of the output and dropped parameters against phi.

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
        RuntimeMissingError: matplotlib is not installed.
    """
    require_outputs([Output(Path(path))], [report.model], overwrite=overwrite)
    path = require_plot(path, overwrite=overwrite)
    figure = new_figure((7.0, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 2)})
    _draw_change(above, report)
    _draw_dropped(below, report)
    for axes in (above, below):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if report.recommended is not None:
            axes.axvline(report.recommended, color=_GREEN, linewidth=1.2)
    title = f"Drop test of {name(Path(report.model).name)}, {report.samples} samples"
    figure.suptitle(title, fontsize=11, parse_math=False)
    save_figure(figure, path)


def new_figure(size: tuple[float, float]) -> Figure:
    """Returns an empty figure of a size in inches.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
    """
    figure: Figure = load_matplotlib().figure.Figure(figsize=size, layout="constrained")
    return figure


def _draw_change(axes: Axes, report: SweepReport) -> None:
    measured = [point for point in report.points if point.change is not None]
    beyond = [point.phi for point in report.points if point.change is None]
    changes = [100 * point.change for point in measured if point.change is not None]
    axes.plot([p.phi for p in measured], changes, color=_BLUE, marker="o", markersize=4, label="change of the output")
    tolerance = 100 * report.tolerance
    axes.axhline(tolerance, color=_RED, linestyle="--", linewidth=1.2, label=f"tolerance {tolerance:g} %")
    if report.recommended is not None:
        # Drawn by the caller on both axes; here for the legend.
        axes.plot([], [], color=_GREEN, linewidth=1.2, label=f"recommended phi {report.recommended:g}")
    # Linear up to the tolerance, so that 0 has a place; logarithmic above, where factors matter.
    axes.set_yscale("symlog", linthresh=tolerance or 1.0)
    axes.set_ylim(0, 1.3 * max([*changes, 2 * tolerance, 1e-3]))
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    if beyond:
        top = axes.get_ylim()[1]
        axes.plot(beyond, [top] * len(beyond), "x", color=_RED, clip_on=False, label="beyond measure")
    axes.set_ylabel("change (% of the output's\nstandard deviation)")
    axes.legend(frameon=False, fontsize=9)


def _draw_dropped(axes: Axes, report: SweepReport) -> None:
    phis = [point.phi for point in report.points]
    weights = [100 * point.weights / report.weights for point in report.points]
    parameters = [100 * point.parameters / report.parameters for point in report.points]
    axes.plot(phis, weights, color=_BLUE, marker="o", markersize=4, label="weights of layers")
    axes.plot(phis, parameters, color=_ORANGE, marker="s", markersize=3, linestyle=":", label="with biases and norms")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("phi (threshold of the KSE, no unit)")
    axes.set_ylabel("dropped (%)")
    axes.legend(frameon=False, fontsize=9)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the suffix.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)
