"""tgdonnx data."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tgdonnx.artifacts import BuildOptions
from tgdonnx.cli.build_options import build_options
from tgdonnx.cli.common import json_option, model_argument
from tgdonnx.cli.data_options import data_options
from tgdonnx.cli.helping import Command
from tgdonnx.cli.output import print_json, say, styled
from tgdonnx.cli.rehearsal import held
from tgdonnx.cli.run_options import run_options
from tgdonnx.cli.spelling import spelled
from tgdonnx.finetuning import RunData, TrainOptions
from tgdonnx.pipeline.examining import DataReport, examine, shape_in_words


@click.command(
    "data",
    cls=Command,
    examples=(
        "tgdonnx data model.onnx --data new.npz",
        "tgdonnx data model.onnx --data pictures --resize 256 --crop 224 --scale imagenet --loss ce",
    ),
)
@model_argument
@data_options
@run_options
@build_options
@json_option
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    data: RunData,
    training: TrainOptions,
    building: BuildOptions,
    as_json: bool,
) -> None:
    """Tell whether data fits MODEL, and the command that trains.

    All that is wrong is told at once; exit 1 if it does not fit as it is. It takes the options of `finetune` on data, training
    and losses; nothing is written.
    """
    report = examine(model, data, training, building=building)
    if report.fits:
        report = replace(report, call=_command(context, report, data))
    print_json(report) if as_json else _print(report, data)
    context.exit(1 if report.problems else 0)


def _command(context: click.Context, report: DataReport, data: RunData) -> str:
    """Returns the command that trains: the options as they were given, and those that were found to help."""
    given = [
        parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and context.get_parameter_source(str(parameter.name)) == ParameterSource.COMMANDLINE
        and parameter.name not in ("as_json", *report.options)
    ]
    words = [word for option in given for word in _words(option, context.params[str(option.name)])]
    added = []
    for name, value in {**report.options, **report.held_out}.items():
        if isinstance(value, Mapping):
            before = getattr(data.reading, name)
            value = {each: what for each, what in value.items() if each not in before}
        added.append(spelled(f"`{name}={value!r}`"))
    model = shlex.quote(str(context.params["model"]))
    return " ".join(["tgdonnx finetune", model, *map(shlex.quote, words), *added, "-o tuned.onnx"])


def _words(option: click.Option, value: Any) -> list[str]:
    name = next(name for name in option.opts if name.startswith("--"))
    if option.is_flag:
        return [name]
    if isinstance(value, tuple) and not option.multiple:  # of names
        return [name, ",".join(value)]
    return [word for each in (value if option.multiple else (value,)) for word in (name, str(each))]


def _print(report: DataReport, data: RunData) -> None:
    say(styled("The model takes", "bold"))
    for wanted in report.wanted:
        layout = f" {wanted.layout}" if wanted.layout is not None else ""
        say(f"  {wanted.name}: {wanted.dtype} {shape_in_words(wanted.shape)}{layout} ({wanted.reason})")
    if report.found:
        say(styled("The data has", "bold"), f" ({data.data})")
        for found in report.found:
            say(f"  {found.name}: {held(found)}")
    for problem in report.problems:
        remedy = f"; {problem.remedy}" if problem.remedy else ""
        say(styled("problem", "bold red"), f"  {problem.problem}{remedy}")
    for line in report.remarks:
        say(styled("done", "bold"), f"  {line}")
    for line in report.passed_over:
        say(styled("not used", "bold"), f"  {line}")
    if not report.fits:
        say(styled("does not fit", "bold red"))
        return
    if report.problems:
        say(styled("does not fit as it is", "bold red"), f"; with this command it does: {report.samples} samples")
    else:
        say(styled("fits", "bold green"), f": {report.samples} samples")
    if report.fed:
        ranges = [f"{name} from {low:.4g} to {high:.4g}" for name, (low, high) in report.fed.items()]
        say(f"  The first batch has {', '.join(ranges)}; if the model was made for other numbers, see --scale.")
    say(f"  {report.call}")
    if report.held_out:
        beside = "validation" in report.held_out
        what = "what lies beside the data and fits too" if beside else "files that are not trained on"
        say(f"  It validates on {what}, to keep the epoch that does best there.")
    elif not data.validated:
        say("  It validates on nothing: name data that is not trained on with --validation.")
