"""tgdonnx mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.cli.data_options import reading_options
from tgdonnx.cli.options import (
    AUTO,
    isolate_option,
    json_option,
    model_argument,
    output_option,
    overwrite_option,
    protect_option,
    reinitialization,
    reinitialization_options,
    strategy,
    strategy_options,
)
from tgdonnx.cli.output import print_json, printing
from tgdonnx.cli.paths import PATH
from tgdonnx.cli.sweep import drop_test
from tgdonnx.data import DataOptions
from tgdonnx.files.outputs import Kind as OutputKind
from tgdonnx.masking import MaskOptions, mask
from tgdonnx.regrowing import Kind, Reinitialization
from tgdonnx.reporting.tables import print_masks
from tgdonnx.selection import Mode


@click.command("mask")
@model_argument
@output_option("The masked model to write.", OutputKind.MODEL)
@strategy_options
@click.option("--data", type=PATH, help="Of --phi auto: unlabelled images, as for `sweep`.")
@reinitialization_options
@isolate_option
@click.option(
    "--seed",
    type=int,
    default=Reinitialization().seed,
    show_default=True,
    help="Of the random numbers of --mode regrow.",
)
@reading_options
@protect_option
@overwrite_option
@json_option
def command(
    model: Path,
    output: Path,
    mode: Mode,
    kind: Optional[Kind],
    calibrate: Optional[Path],
    isolate: bool,
    seed: int,
    protect: bool,
    data: Optional[Path],
    reading: DataOptions,
    overwrite: bool,
    as_json: bool,
    **choice: Any,
) -> None:
    """Choose filters of MODEL and write a masked model: the same graph and outputs, with retrain masks in it.

    In --mode regrow the outputs are those without the filters; how far they are from MODEL's is told.
    """
    if choice["phi"] == AUTO and data is None:
        raise click.UsageError("--phi auto looks at the output on a few images; name them with --data")
    if choice["phi"] != AUTO and (data is not None or (calibrate is None and reading != DataOptions())):
        raise click.UsageError("--data and how to read it are for the drop test, which only --phi auto does")
    recommend = drop_test(model, data or Path(), output=None, reading=reading)
    reinitialized = reinitialization(
        mode=mode,
        kind=kind,
        calibrate=calibrate,
        isolate=isolate,
        tolerance=choice["tolerance"],
        seed=seed,
        reading=reading,
    )
    chosen = strategy(choice, mode=mode, recommend=recommend)
    report = mask(model, output, chosen, MaskOptions(mode, reinitialized, protect), overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        with printing() as console:
            print_masks(report, console)
