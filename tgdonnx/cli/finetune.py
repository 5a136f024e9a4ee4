"""tgdonnx finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.artifacts import Form, GradientKind, OptimizerName
from tgdonnx.cli.data_options import data_options
from tgdonnx.cli.options import (
    AUTO,
    build_options,
    json_option,
    model_argument,
    output_option,
    overwrite_option,
    strategy,
    strategy_options,
    train_options,
)
from tgdonnx.cli.output import print_json, remark
from tgdonnx.cli.progress import training_bar
from tgdonnx.cli.sweep import drop_test
from tgdonnx.data import DataOptions
from tgdonnx.finetuning import ScheduleName, TrainOptions
from tgdonnx.pipeline import finetune
from tgdonnx.selection import Mode


@click.command("finetune")
@model_argument
@output_option("The tuned model to write.")
@strategy_options
@build_options
@data_options
@train_options
@click.option(
    "--sweep-data",
    type=click.Path(path_type=Path),
    help="Of --phi auto: unlabelled images to look at; those of --data if left out.",
)
@click.option("--artifacts", type=click.Path(path_type=Path), help="Keep the artifacts in this directory.")
@overwrite_option
@json_option
def command(
    model: Path,
    output: Path,
    mode: Mode,
    loss: str,
    data_range: float,
    optimizer: OptimizerName,
    l2: float,
    l2_sp: float,
    clip_norm: Optional[float],
    gradient: GradientKind,
    form: Form,
    output_name: Optional[str],
    data: Path,
    validation: Optional[Path],
    reading: DataOptions,
    epochs: int,
    batch: int,
    learning_rate: float,
    schedule: ScheduleName,
    warmup: int,
    seed: int,
    sweep_data: Optional[Path],
    artifacts: Optional[Path],
    overwrite: bool,
    as_json: bool,
    **choice: Any,
) -> None:
    """Adapt MODEL in one go: mask, build, train, export and verify."""
    if sweep_data is not None and choice["phi"] != AUTO:
        raise click.UsageError("--sweep-data is for the drop test, which only --phi auto does")
    chosen = strategy(**choice, recommend=drop_test(model, sweep_data or data, output=output_name, reading=reading))
    with training_bar() as show:
        report = finetune(
            model,
            data,
            output,
            chosen,
            TrainOptions(epochs, batch, learning_rate, schedule, warmup, seed),
            mode=mode,
            loss=loss,
            data_range=data_range,
            optimizer=optimizer,
            l2=l2,
            l2_sp=l2_sp,
            clip_norm=clip_norm,
            gradient=gradient,
            form=form,
            output_name=output_name,
            validation=validation,
            data_options=reading,
            artifacts=artifacts,
            overwrite=overwrite,
            on_progress=show,
            on_remark=remark,
        )
    if as_json:
        print_json(report)
    else:
        rows = sum(len(entry.filters) for entry in report.export.changed)
        click.echo(f"{report.train.steps} steps, loss {report.train.loss[0]:.6g} to {report.train.loss[-1]:.6g}")
        click.echo(f"{report.export.output}: {rows} rows of {len(report.export.changed)} tensors changed")
        click.echo(f"{click.style('ok', 'green', bold=True)}  nothing else differs")
