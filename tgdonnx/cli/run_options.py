"""Options that say how to train: the fields of `TrainOptions`."""

from __future__ import annotations

import re

import click

from tgdonnx.cli.collecting import collected
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import OUTPUT, TRAINING, options_of
from tgdonnx.cli.paths import OutputPath
from tgdonnx.files.outputs import Kind
from tgdonnx.finetuning import DEFAULT_AGREE_SHARE, METRICS, SCHEDULES, TrainOptions
from tgdonnx.finetuning.options import LEARNING_RATE, SIDE_PATH_LEARNING_RATE

_DEFAULT = TrainOptions()
_option = options_of(TRAINING)
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


run_options = collected(
    "training",
    TrainOptions,
    _option("--epochs", type=int, help="Passes over the data.  [default: 10, unless --max-time is given]"),
    _option("--steps", type=int, help="Updates of the weights, instead of --epochs."),
    _option("--max-time", type=duration, help="Stop after this time, such as 30m or 1h30m."),
    _option("--batch", "--batch-size", type=int, default=_DEFAULT.batch, show_default=True, help="Samples per batch."),
    _option(
        "--learning-rate",
        "--lr",
        type=float,
        help=f"Learning rate.  [default: {LEARNING_RATE:g}; of side paths (mode adapter) {SIDE_PATH_LEARNING_RATE:g}]",
    ),
    _option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default=_DEFAULT.schedule,
        show_default=True,
        help="How the learning rate goes on after --warmup.",
    ),
    _option("--warmup", type=int, default=_DEFAULT.warmup, show_default=True, help="Steps with a rising rate."),
    _option("--seed", type=int, default=_DEFAULT.seed, show_default=True, help="Of the order of the samples."),
    _option(
        "--accumulate",
        type=int,
        default=_DEFAULT.accumulate,
        show_default=True,
        help="Batches per step; the gradient is the mean of theirs.",
    ),
    _option("--patience", type=int, metavar="N", help="Stop after N validations without a new best one."),
    _option("--validate-every", type=int, metavar="N", help="Validate every N steps instead of every epoch."),
    _option(
        "--checkpoint-every",
        type=duration,
        default=_DEFAULT.checkpoint_every,
        help="Time between checkpoints; there is one after every epoch, too.  [default: 5m]",
    ),
    _option(
        "--metric",
        "metrics",
        multiple=True,
        type=click.Choice(METRICS),
        help="Measure this on --validation and --retain; by default what suits the loss. May be repeated.",
    ),
    _option(
        "--best",
        default=_DEFAULT.best,
        show_default=True,
        metavar="METRIC",
        help="Keep the epoch that is best by this, and count --patience by it: loss, or a metric of --validation.",
    ),
    _option(
        "--metric-range",
        type=float,
        help="Range of the data for the metrics psnr and ssim; else that of the targets.",
    ),
    _option(
        "--retain-limit",
        type=float,
        help="Stop when the first metric of --retain is worse than at the start by more than this.",
    ),
    _option(
        "--agree-share",
        type=float,
        help=f"The part of every batch that is images of --agree.  [default: {DEFAULT_AGREE_SHARE}]",
    ),
    device_option,
)
"""The command gets ``training``, a `TrainOptions`."""

tensorboard_option = options_of(OUTPUT)(
    "--tensorboard", type=OutputPath(Kind.ADDED_TO), metavar="DIR", help="Write event files there."
)
