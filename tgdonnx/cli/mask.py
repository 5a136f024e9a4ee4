"""tgdonnx mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tgdonnx.cli.options import json_option, model_argument, output_option, overwrite_option, strategy, strategy_options
from tgdonnx.cli.output import print_json, stdout
from tgdonnx.masks import mask
from tgdonnx.report.tables import print_masks
from tgdonnx.selection import Mode


@click.command("mask")
@model_argument
@output_option("The masked model to write.")
@strategy_options
@overwrite_option
@json_option
def command(model: Path, output: Path, mode: Mode, overwrite: bool, as_json: bool, **choice: Any) -> None:
    """Choose filters of MODEL and write a masked model: the same graph and outputs, with retrain masks in it."""
    report = mask(model, output, strategy(**choice), mode=mode, overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        print_masks(report, stdout())
