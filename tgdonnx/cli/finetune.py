"""tgdonnx finetune."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Optional, Union

import click

from tgdonnx.artifacts import BuildOptions
from tgdonnx.cli.blend_option import blend_option
from tgdonnx.cli.config import config_option
from tgdonnx.cli.data_options import data_options, noise2noise_option
from tgdonnx.cli.options import (
    AUTO,
    build_options,
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
from tgdonnx.cli.output import print_json, printing, remark, say, styled
from tgdonnx.cli.paths import PATH, OutputPath
from tgdonnx.cli.progress import training_bar
from tgdonnx.cli.results import result_lines
from tgdonnx.cli.run_options import run_options, watch_options
from tgdonnx.cli.sweep import drop_test
from tgdonnx.cli.train import STOPPING
from tgdonnx.files.outputs import Kind as OutputKind
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions, Watch
from tgdonnx.masking import MaskOptions
from tgdonnx.pipeline import Results, finetune
from tgdonnx.regrowing import Kind
from tgdonnx.reporting.blends import print_blends
from tgdonnx.reporting.verdict import headline
from tgdonnx.selection import Mode


@click.command("finetune")
@model_argument
@output_option("The tuned model to write.", OutputKind.MODEL)
@strategy_options
@build_options
@data_options
@noise2noise_option
@reinitialization_options
@isolate_option
@click.option(
    "--sweep-data",
    type=PATH,
    help="Of --phi auto: unlabelled images to look at; those of --data if left out.",
)
@run_options
@watch_options
@click.option(
    "--apply",
    "apply_to",
    type=PATH,
    metavar="FULL",
    help="Apply the tuned model to this image or volume.",
)
@click.option(
    "--applied",
    type=OutputPath(),
    metavar="OUT",
    help="Where to write the result; beside the tuned model.",
)
@click.option(
    "--rounds",
    type=int,
    default=1,
    show_default=True,
    help="Score, mask and train so often, each time from the last result.",
)
@blend_option
@protect_option
@click.option("--report", "page", type=OutputPath(), metavar="FILE.html", help="Write a report, one page.")
@click.option("--artifacts", type=OutputPath(OutputKind.ARTIFACTS), help="Keep the artifacts in this directory.")
@overwrite_option
@config_option
@json_option
def command(
    model: Path,
    output: Path,
    mode: Mode,
    kind: Optional[Kind],
    calibrate: Optional[Path],
    isolate: bool,
    building: BuildOptions,
    data: RunData,
    apply_to: Optional[Path],
    applied: Optional[Path],
    sweep_data: Optional[Path],
    tensorboard: Optional[Path],
    rounds: int,
    blend: Union[float, Literal["auto"]],
    protect: bool,
    page: Optional[Path],
    artifacts: Optional[Path],
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Adapt MODEL in one go: mask, build, train, export and verify."""
    options = TrainOptions(**{f.name: choices.pop(f.name) for f in fields(TrainOptions) if f.name in choices})
    if sweep_data is not None and choices["phi"] != AUTO:
        raise click.UsageError("--sweep-data is for the drop test, which only --phi auto does")
    looked_at = sweep_data or (None if isinstance(data.data, Noise2Noise) else data.data)
    if choices["phi"] == AUTO and looked_at is None:
        raise click.UsageError("with --noise2noise, --phi auto needs images to look at; name them with --sweep-data")
    reinitialized = reinitialization(
        mode=mode,
        kind=kind,
        calibrate=calibrate,
        isolate=isolate,
        tolerance=choices["tolerance"],
        seed=options.seed,
        reading=data.reading,
    )
    recommend = drop_test(model, looked_at or Path(), output=building.output, reading=data.reading)
    chosen = strategy(choices, mode=mode, recommend=recommend)
    with training_bar() as show:
        report = finetune(
            model,
            data,
            output,
            chosen,
            options,
            building=building,
            masking=MaskOptions(mode, reinitialized, protect),
            rounds=rounds,
            results=Results(page, artifacts, apply_to, applied, overwrite, blend),
            watch=Watch(tensorboard, STOPPING, show.step, show.epoch, remark),
        )
    if as_json:
        print_json(report)
    else:
        for number, earlier in enumerate(report.earlier, 1):
            losses = earlier.train.loss
            say(f"round {number}: {earlier.train.steps} steps, loss {losses[0]:.6g} to {losses[-1]:.6g}")
        if report.note is not None:
            remark(report.note)
        rows = sum(len(entry.filters) for entry in report.verify.changed)
        say(f"{report.train.steps} steps, loss {report.train.loss[0]:.6g} to {report.train.loss[-1]:.6g}")
        if report.train.stop.rule != "length":
            say(f"stopped early: {report.train.stop.reason}")
        for line in result_lines(report.train):
            say(line)
        if report.blend is not None:
            with printing() as console:
                print_blends(report.blend, console)
        at = "" if report.export.blend == 1 else f", blended at {report.export.blend:g}"
        say(f"{report.export.output}: {rows} rows of {len(report.export.changed)} tensors changed{at}")
        if report.apply is not None:
            say(f"{report.apply.output}: {'x'.join(map(str, report.apply.shape))} {report.apply.dtype}")
        if report.page is not None:
            say(f"{report.page.output}: {report.page.size:,} bytes")
        say(styled("ok", "bold green"), f"  {headline(report.verify)}")
