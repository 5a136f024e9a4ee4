"""tgdonnx mask."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.artifacts import BuildOptions
from tgdonnx.cli.common import json_option, model_argument, output_option, overwrite_option
from tgdonnx.cli.data_options import reading_options
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import SELECTION, Command, options_of
from tgdonnx.cli.output import print_json, printing
from tgdonnx.cli.paths import PATH
from tgdonnx.cli.selection_options import (
    Selecting,
    isolate_option,
    protect_option,
    reinitialization_options,
    selection_options,
)
from tgdonnx.cli.sweep import drop_test
from tgdonnx.data import DataOptions
from tgdonnx.files.outputs import Kind as OutputKind
from tgdonnx.finetuning import RunData, TrainOptions
from tgdonnx.layers import open_network
from tgdonnx.masking import mask
from tgdonnx.regrowing import Reinitialization
from tgdonnx.reporting.tables import print_masks
from tgdonnx.sensitivity import measured


@click.command(
    "mask",
    cls=Command,
    examples=(
        "tgdonnx mask model.onnx -o masked.onnx --phi 0.3",
        "tgdonnx mask model.onnx -o masked.onnx --phi auto --data new.npz",
    ),
)
@model_argument
@output_option("The masked model to write.", OutputKind.MODEL)
@selection_options
@options_of(SELECTION)(
    "--data",
    "sweep_data",
    type=PATH,
    help="Of --phi auto: unlabelled images, as for `sweep`. Of --steepest and --fisher: data to train on, as for `finetune`.",
)
@options_of(SELECTION)(
    "--loss", metavar="LOSS", help=f"Of --steepest and --fisher, as for `build`.  [default: {BuildOptions().loss}]"
)
@reinitialization_options
@isolate_option
@options_of(SELECTION)(
    "--seed",
    type=int,
    default=Reinitialization().seed,
    show_default=True,
    help="Of the random numbers of --mode regrow and adapter, of --random, and of which samples are looked at.",
)
@reading_options
@device_option
@protect_option
@overwrite_option
@json_option
def command(
    model: Path,
    output: Path,
    selecting: Selecting,
    loss: Optional[str],
    seed: int,
    reading: DataOptions,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Choose filters of MODEL and write a model with retrain masks.

    Graph and outputs stay the same. In --mode regrow the outputs are those without the filters; how far they are from MODEL's
    is told.
    """
    selecting.require_said()
    looks = selecting.by_drop_test or selecting.by_gradient
    if selecting.by_drop_test and selecting.sweep_data is None:
        raise click.UsageError("--phi auto looks at the output on a few images; name them with --data")
    if selecting.by_gradient and selecting.sweep_data is None:
        raise click.UsageError(
            "--steepest and --fisher look at the gradient on the data to train on; name it with --data"
        )
    unread = selecting.calibrate is None and reading != DataOptions()
    if not looks and (selecting.sweep_data is not None or unread):
        raise click.UsageError(
            "--data and how to read it are for the drop test, which only --phi auto does, and for --steepest and --fisher"
        )
    if loss is not None and not selecting.by_gradient:
        raise click.UsageError("--loss is for --steepest and --fisher, which look at its gradient")
    looked_at = selecting.sweep_data or Path()
    chosen = selecting.strategy(drop_test(model, looked_at, output=None, reading=reading, device=device), seed)
    if selecting.by_gradient:
        building = BuildOptions() if loss is None else BuildOptions(loss=loss)
        training = TrainOptions(seed=seed, device=device)
        chosen = measured(
            chosen, open_network(model), RunData(looked_at, reading=reading), building, training, selecting.freeze
        )
    report = mask(model, output, chosen, selecting.masking(reading, seed, device), overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        with printing() as console:
            print_masks(report, console)
