"""tgdonnx compare."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.artifacts import BuildOptions
from tgdonnx.cli.build_options import build_options
from tgdonnx.cli.collecting import collected
from tgdonnx.cli.common import json_option, model_argument, output_option
from tgdonnx.cli.config import config_option
from tgdonnx.cli.data_options import data_options
from tgdonnx.cli.helping import SELECTION, TRAINING, Command, options_of
from tgdonnx.cli.output import print_json, printing, remark
from tgdonnx.cli.paths import PATH
from tgdonnx.cli.progress import training_bar
from tgdonnx.cli.run_options import run_options, tensorboard_option
from tgdonnx.cli.selection_options import freeze_option, reinitialization_options
from tgdonnx.cli.train import STOPPING
from tgdonnx.cli.workers_option import workers_option
from tgdonnx.cluster import Workers
from tgdonnx.comparing import DEFAULT_SELECTIONS, SELECTIONS, Trials, compare
from tgdonnx.comparing.trials import MOST_SEEDS
from tgdonnx.errors import RuntimeMissingError
from tgdonnx.files.outputs import Kind as OutputKind
from tgdonnx.finetuning import RunData, TrainOptions, Watch
from tgdonnx.masking import MaskOptions
from tgdonnx.regrowing import Kind, Reinitialization
from tgdonnx.reporting.comparison import print_compare
from tgdonnx.reporting.pareto import plot_compare
from tgdonnx.sweeping import DEFAULT_TOLERANCE

PLOT = "pareto.png"


def _trials(select: Optional[str], seeds: int, workers: Optional[Workers]) -> Trials:
    return Trials(None if select is None else [name for name in select.split(",") if name.strip()], seeds, workers)


def _masking(kind: Optional[Kind], calibrate: Optional[Path], tolerance: float, freeze: tuple[str, ...]) -> MaskOptions:
    return MaskOptions(reinitialization=Reinitialization(kind, calibrate, tolerance=tolerance), freeze=freeze)


@click.command(
    "compare",
    cls=Command,
    examples=("tgdonnx compare model.onnx --data new.npz --validation held_out.npz --retain old.npz -o compared",),
)
@model_argument
@output_option(
    "The directory for artifacts, tuned models and the plot; of an earlier call it is gone on with.",
    OutputKind.ADDED_TO,
)
@collected(
    "trials",
    _trials,
    options_of(SELECTION)(
        "--select",
        metavar="S,...",
        help=f"Of {', '.join(SELECTIONS)}; with +l2sp or +agree behind, these regularise.  "
        f"[default: {', '.join(DEFAULT_SELECTIONS)}, as far as they fit]",
    ),
    options_of(TRAINING)(
        "--seeds",
        type=click.IntRange(1, MOST_SEEDS),
        default=1,
        show_default=True,
        metavar="N",
        help="Run each by N seeds, from --seed on, and tell mean and spread.",
    ),
    workers_option,
)
@collected(
    "masking",
    _masking,
    freeze_option,
    options_of(SELECTION)(
        "--tolerance",
        type=float,
        default=DEFAULT_TOLERANCE,
        show_default=True,
        help="Of the drop test that finds the phi of tgd, as in `sweep`; and of the start in mode regrow.",
    ),
)
@options_of(SELECTION)("--sweep-data", type=PATH, help="Of the drop test: unlabelled images; else those of --data.")
@reinitialization_options
@build_options
@data_options
@run_options
@tensorboard_option
@config_option
@json_option
def command(
    model: Path,
    output: Path,
    trials: Trials,
    masking: MaskOptions,
    sweep_data: Optional[Path],
    building: BuildOptions,
    data: RunData,
    training: TrainOptions,
    tensorboard: Optional[Path],
    as_json: bool,
) -> None:
    """Train several selections of MODEL at equal budget, and compare.

    New and old task are shown along every run. The same steps, batches, seed and learning rate for all. Recommended is the
    lowest validation loss among what keeps the vendor's own task (--retain) within --retain-limit; the limit stops no run
    here. The same command goes on after a stop.
    """
    with training_bar() as show:
        report = compare(
            model,
            data,
            output,
            trials,
            training,
            building=building,
            masking=masking,
            sweep_data=sweep_data,
            watch=Watch(tensorboard, STOPPING, show.step, show.epoch, remark),
        )
    if report.old is not None:
        try:
            plot_compare(report, output / PLOT, overwrite=True)
        except RuntimeMissingError as error:
            remark(f"no plot: {error}")
    if as_json:
        print_json(report)
    else:
        with printing() as console:
            print_compare(report, console)
