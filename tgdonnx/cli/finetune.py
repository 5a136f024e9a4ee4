"""tgdonnx finetune."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.artifacts import Form, GradientKind, OptimizerName
from tgdonnx.cli.config import config_option
from tgdonnx.cli.options import (
    AUTO,
    build_options,
    data_options,
    json_option,
    model_argument,
    output_option,
    overwrite_option,
    renamed,
    strategy,
    strategy_options,
)
from tgdonnx.cli.output import print_json
from tgdonnx.cli.progress import training_bar
from tgdonnx.cli.run_options import run_options, watch_options
from tgdonnx.cli.sweep import drop_test
from tgdonnx.cli.train import STOPPING
from tgdonnx.finetuning import TrainOptions
from tgdonnx.pipeline import finetune
from tgdonnx.selection import Mode


@click.command("finetune")
@model_argument
@output_option("The tuned model to write.")
@strategy_options
@build_options
@data_options
@click.option(
    "--sweep-data",
    type=click.Path(path_type=Path),
    help="Of --phi auto: unlabelled images to look at; those of --data if left out.",
)
@run_options
@watch_options
@click.option(
    "--report", "page", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a report, one page."
)
@click.option("--artifacts", type=click.Path(path_type=Path), help="Keep the artifacts in this directory.")
@overwrite_option
@config_option
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
    renames: tuple[str, ...],
    sweep_data: Optional[Path],
    retain: Optional[Path],
    tensorboard: Optional[Path],
    page: Optional[Path],
    artifacts: Optional[Path],
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Adapt MODEL in one go: mask, build, train, export and verify."""
    options = TrainOptions(**{field.name: choices.pop(field.name) for field in fields(TrainOptions)})
    if sweep_data is not None and choices["phi"] != AUTO:
        raise click.UsageError("--sweep-data is for the drop test, which only --phi auto does")
    names = renamed(renames)
    chosen = strategy(**choices, recommend=drop_test(model, sweep_data or data, output=output_name, names=names))
    with training_bar() as show:
        report = finetune(
            model,
            data,
            output,
            chosen,
            options,
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
            retain=retain,
            renamed=names,
            page=page,
            artifacts=artifacts,
            overwrite=overwrite,
            tensorboard=tensorboard,
            stop_on=STOPPING,
            on_progress=show,
        )
    if as_json:
        print_json(report)
    else:
        rows = sum(len(entry.filters) for entry in report.export.changed)
        click.echo(f"{report.train.steps} steps, loss {report.train.loss[0]:.6g} to {report.train.loss[-1]:.6g}")
        if report.train.stop.rule != "length":
            click.echo(f"stopped early: {report.train.stop.reason}")
        click.echo(f"{report.export.output}: {rows} rows of {len(report.export.changed)} tensors changed")
        click.echo(f"{click.style('ok', 'green', bold=True)}  nothing else differs")
