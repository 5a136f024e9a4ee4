"""tgdonnx trace."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.common import json_option, model_argument
from tgdonnx.cli.helping import MODEL, Command, options_of
from tgdonnx.cli.output import print_json, printing
from tgdonnx.reporting.traces import print_trace
from tgdonnx.tracing import trace


@click.command(
    "trace",
    cls=Command,
    examples=("tgdonnx trace model.onnx --layer conv3",),
)
@model_argument
@options_of(MODEL)("--layer", metavar="NAME", help="Only this layer.")
@options_of(MODEL)("--map", "map_index", type=click.IntRange(0), help="Only this input map of the layer.")
@json_option
def command(model: Path, layer: Optional[str], map_index: Optional[int], as_json: bool) -> None:
    """Tell which filters made each input map, or why that is unknown."""
    if map_index is not None and layer is None:
        raise click.UsageError("--map needs --layer")
    report = trace(model, layer=layer, map_index=map_index)
    if as_json:
        print_json(report)
    else:
        with printing() as console:
            print_trace(report.layers, console)
