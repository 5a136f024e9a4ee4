"""tgdonnx train."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.data_options import data_options
from tgdonnx.cli.options import json_option, train_options
from tgdonnx.cli.output import print_json, remark
from tgdonnx.cli.progress import training_bar
from tgdonnx.data import DataOptions
from tgdonnx.finetuning import ScheduleName, TrainOptions, train


@click.command("train")
@click.argument("directory", type=click.Path(path_type=Path))
@data_options
@train_options
@click.option("--resume", is_flag=True, help="Continue the run in DIRECTORY.")
@json_option
def command(
    directory: Path,
    data: Path,
    validation: Optional[Path],
    reading: DataOptions,
    epochs: int,
    batch: int,
    learning_rate: float,
    schedule: ScheduleName,
    warmup: int,
    seed: int,
    resume: bool,
    as_json: bool,
) -> None:
    """Train the artifacts in DIRECTORY; leaves a newer checkpoint and log.jsonl there."""
    options = TrainOptions(epochs, batch, learning_rate, schedule, warmup, seed)
    with training_bar() as show:
        report = train(
            directory,
            data,
            options,
            validation=validation,
            data_options=reading,
            resume=resume,
            on_progress=show,
            on_remark=remark,
        )
    if as_json:
        print_json(report)
    else:
        best = report.best
        click.echo(f"{report.steps} steps in {report.seconds:.1f} s; loss {report.loss[-1]:.6g}")
        first = report.epochs[0].validation
        if first is not None:
            click.echo(f"best: epoch {best.epoch}, validation loss {best.loss:.6g} (at the start {first:.6g})")
