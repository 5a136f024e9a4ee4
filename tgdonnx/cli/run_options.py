"""Options that say how to train: the fields of `TrainOptions`, and where a run is watched."""

from __future__ import annotations

import re

import click

from tgdonnx.cli.options import Command
from tgdonnx.cli.paths import PATH, OutputPath
from tgdonnx.files.outputs import Kind
from tgdonnx.finetuning import DEFAULT_AGREE_SHARE, METRICS, SCHEDULES, TrainOptions

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def duration(value: object) -> float:
    """Turns seconds, or text such as ``90``, ``90s``, ``30m`` or ``1h30m``, into seconds.

    Raises:
        BadParameter: it is neither.
    """
    text = str(value).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise click.BadParameter(f"expected seconds, or a duration such as 90s, 30m or 1h30m; got {value!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def run_options(command: Command) -> Command:
    """How to train. The names of the parameters are those of the fields of `TrainOptions`, and ``agree``, which is data."""
    defaults = TrainOptions()
    for option in (
        click.option(
            "--agree-share",
            type=float,
            help=f"The part of every batch that is images of --agree.  [default: {DEFAULT_AGREE_SHARE}]",
        ),
        click.option(
            "--agree",
            type=PATH,
            metavar="DATA",
            help="Images to agree with the vendor on: mixed into the batches, with the vendor's outputs for targets.",
        ),
        click.option(
            "--retain-limit",
            type=float,
            help="Stop when the first metric of --retain is worse than at the start by more than this.",
        ),
        click.option(
            "--metric-range",
            type=float,
            help="Range of the data for the metrics psnr and ssim; else that of the targets.",
        ),
        click.option(
            "--metric",
            "metrics",
            multiple=True,
            type=click.Choice(METRICS),
            help="Measure this on --validation and --retain; by default what suits the loss. May be repeated.",
        ),
        click.option(
            "--checkpoint-every",
            type=duration,
            default=defaults.checkpoint_every,
            help="Time between checkpoints; there is one after every epoch, too.  [default: 5m]",
        ),
        click.option("--validate-every", type=int, metavar="N", help="Validate every N steps instead of every epoch."),
        click.option("--patience", type=int, metavar="N", help="Stop after N validations without a new best one."),
        click.option(
            "--accumulate",
            type=int,
            default=defaults.accumulate,
            show_default=True,
            help="Batches per step; the gradient is the mean of theirs.",
        ),
        click.option("--seed", type=int, default=defaults.seed, show_default=True, help="Of the order of the samples."),
        click.option(
            "--warmup", type=int, default=defaults.warmup, show_default=True, help="Steps with a rising rate."
        ),
        click.option(
            "--schedule",
            type=click.Choice(SCHEDULES),
            default=defaults.schedule,
            show_default=True,
            help="How the learning rate goes on after the warm-up.",
        ),
        click.option(
            "--lr",
            "learning_rate",
            type=float,
            default=defaults.learning_rate,
            show_default=True,
            help="Learning rate.",
        ),
        click.option("--batch", type=int, default=defaults.batch, show_default=True, help="Samples per batch."),
        click.option("--max-time", type=duration, help="Stop after this time, such as 30m or 1h30m."),
        click.option("--steps", type=int, help="Updates of the weights, instead of --epochs."),
        click.option("--epochs", type=int, help="Passes over the data.  [default: 10, unless --max-time is given]"),
    ):
        command = option(command)
    return command


def watch_options(command: Command) -> Command:
    """What a run looks at besides its loss."""
    for option in (
        click.option("--tensorboard", type=OutputPath(Kind.ADDED_TO), metavar="DIR", help="Write event files there."),
        click.option(
            "--retain",
            type=PATH,
            help="Data of the vendor's own task; without `target`, agreement with the vendor's outputs is measured.",
        ),
    ):
        command = option(command)
    return command
