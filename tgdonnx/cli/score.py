"""tgdonnx score."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.common import json_option, model_argument, overwrite_option, score_options
from tgdonnx.cli.helping import OUTPUT, Command, options_of
from tgdonnx.cli.output import print_json, printing
from tgdonnx.cli.paths import OutputPath
from tgdonnx.reporting.scorefiles import save_scores
from tgdonnx.reporting.tables import print_scores
from tgdonnx.scoring import score


@click.command(
    "score",
    cls=Command,
    examples=("tgdonnx score model.onnx -o scores.csv",),
)
@model_argument
@options_of(OUTPUT)("-o", "output", type=OutputPath(), help="Write all scores: .json, .csv or .npz.")
@score_options
@overwrite_option
@json_option
def command(model: Path, output: Optional[Path], alpha: float, k: int, overwrite: bool, as_json: bool) -> None:
    """Compute sparsity, entropy and KSE of all input maps of MODEL."""
    report = score(model, alpha=alpha, k=k)
    if output is not None:
        save_scores(report, output, overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        with printing() as console:
            print_scores(report, console)
