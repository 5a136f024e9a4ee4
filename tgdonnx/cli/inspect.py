"""tgdonnx inspect."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.common import json_option, model_argument, overwrite_option, score_options
from tgdonnx.cli.helping import OUTPUT, SELECTION, Command, options_of
from tgdonnx.cli.output import print_json, printing, say
from tgdonnx.cli.paths import OutputPath
from tgdonnx.inspection import InspectReport, look
from tgdonnx.reporting.tables import print_inspection


@click.command(
    "inspect",
    cls=Command,
    examples=(
        "tgdonnx inspect model.onnx",
        "tgdonnx inspect model.onnx --phi 0.5 --html model.html --plot scores.png",
    ),
)
@model_argument
@options_of(SELECTION)("--phi", type=float, default=0.3, show_default=True, help="Threshold of the KSE.")
@score_options
@options_of(OUTPUT)("--plot", type=OutputPath(), help="Draw the scores of every layer: .png, .svg or .pdf.")
@options_of(OUTPUT)(
    "--html",
    type=OutputPath(),
    metavar="FILE.html",
    help="Write a page to look through: the graph, and of every layer what would retrain, what is frozen and why.",
)
@overwrite_option
@json_option
def command(
    model: Path,
    phi: float,
    alpha: float,
    k: int,
    plot: Optional[Path],
    html: Optional[Path],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show the layers of MODEL, what would retrain, and what is frozen.

    Of a masked MODEL it shows what its masks let train.
    """
    if plot is not None:
        from tgdonnx.reporting.plots import require_plot

        require_plot(plot, overwrite=overwrite)
    if html is not None:
        from tgdonnx.reporting.model_page import require_model_page  # with it come rooms that the table does without

        require_model_page(html, overwrite=overwrite)
    inspected = look(model, phi=phi, alpha=alpha, k=k)
    if plot is not None:
        from tgdonnx.reporting.score_plot import plot_scores

        plot_scores(inspected.report, plot, overwrite=overwrite)
    if html is not None:
        from tgdonnx.reporting.model_page import write_model_page

        size = write_model_page(inspected, html, _next(inspected.report), overwrite=overwrite)
    if as_json:
        print_json(inspected.report)
        return
    with printing() as console:
        print_inspection(inspected.report, console)
    if html is not None:
        say(f"{html}: {size:,} bytes")
    say(f"next: {_next(inspected.report)}")


def _next(report: InspectReport) -> str:
    """Returns the command that goes on from here."""
    model = shlex.quote(report.model)
    if report.gate is not None:
        return f"tgdonnx apply {model} --data D -o result.npy"
    if report.selection is not None:
        return f"tgdonnx build {model} -o run"
    if not any(layer.retrain for layer in report.layers):  # the drop test looks for another phi
        return f"tgdonnx sweep {model} --data D"
    return f"tgdonnx check {model}"
