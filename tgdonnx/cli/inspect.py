"""tgdonnx inspect."""

from __future__ import annotations

from pathlib import Path

import click

from tgdonnx.cli.common import json_option, model_argument, score_options
from tgdonnx.cli.helping import SELECTION, Command, options_of
from tgdonnx.cli.output import print_json, printing
from tgdonnx.inspection import inspect
from tgdonnx.reporting.tables import print_inspection


@click.command(
    "inspect",
    cls=Command,
    examples=(
        "tgdonnx inspect model.onnx",
        "tgdonnx inspect model.onnx --phi 0.5",
    ),
)
@model_argument
@options_of(SELECTION)("--phi", type=float, default=0.3, show_default=True, help="Threshold of the KSE.")
@score_options
@json_option
def command(model: Path, phi: float, alpha: float, k: int, as_json: bool) -> None:
    """Show the layers of MODEL, what would retrain, and what is frozen."""
    report = inspect(model, phi=phi, alpha=alpha, k=k)
    if as_json:
        print_json(report)
    else:
        with printing() as console:
            print_inspection(report, console)
