"""tgdonnx train."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.acceptance import acceptance_option
from tgdonnx.cli.common import json_option
from tgdonnx.cli.config import config_option
from tgdonnx.cli.data_options import paired_data_options
from tgdonnx.cli.helping import TRAINING, Command, options_of
from tgdonnx.cli.output import print_json, remark, say
from tgdonnx.cli.paths import PATH
from tgdonnx.cli.progress import training_bar
from tgdonnx.cli.results import result_lines
from tgdonnx.cli.run_options import run_options, tensorboard_option
from tgdonnx.exporting import try_export
from tgdonnx.finetuning import DryRunReport, RunData, TrainOptions, TrainReport, Watch, dry_run, train

# SIGHUP, which Windows lacks, comes when a terminal is closed; who started us with nohup wants none of it.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@click.command(
    "train",
    cls=Command,
    examples=(
        "tgdonnx train run --data new.npz --validation held_out.npz --epochs 20",
        "tgdonnx train run --data new.npz --validation held_out.npz --epochs 40 --resume",
    ),
)
@click.argument("directory", type=PATH)
@paired_data_options
@run_options
@tensorboard_option
@acceptance_option
@options_of(TRAINING)("--resume", is_flag=True, help="Continue the run in DIRECTORY.")
@options_of(TRAINING)(
    "--dry-run", "rehearse", is_flag=True, help="Do one step, say what the run will cost, write nothing."
)
@config_option
@json_option
def command(
    directory: Path,
    data: RunData,
    training: TrainOptions,
    tensorboard: Optional[Path],
    acceptance: Optional[Path],
    resume: bool,
    rehearse: bool,
    as_json: bool,
) -> None:
    """Train the artifacts in DIRECTORY.

    It leaves a newer checkpoint and log.jsonl there. Ctrl-C, SIGTERM or SIGHUP saves and stops (exit status 130, 143 or 129);
    the same command with --resume goes on from there.
    """
    if rehearse:
        cost = dry_run(directory, data, training, on_remark=remark)
        if as_json:
            print_json(cost)
        else:
            print_cost(cost)
            say("nothing was written")
        return
    try_export(directory)  # what could not be written back is refused before the first step
    with training_bar() as show:
        report = train(
            directory,
            data,
            training,
            resume=resume,
            acceptance=acceptance,
            watch=Watch(tensorboard, STOPPING, show.step, show.epoch, remark),
        )
    print_json(report) if as_json else _print_run(report)
    if report.stop.signal is not None:
        remark(f"{report.stop.reason}; {directory} holds the run: go on with the same command and --resume")
        raise click.exceptions.Exit(128 + report.stop.signal)


def _print_run(report: TrainReport) -> None:
    last = report.epochs[-1]
    if report.loss:
        wait = "" if last.wait is None else f"; {last.wait:.1%} of the time of the steps was waiting for data"
        say(f"{report.steps} steps in {report.seconds:.1f} s; loss {report.loss[-1]:.6g}{wait}")
    if report.stop.rule not in ("length", "signal"):
        say(f"stopped early: {report.stop.reason}")
    for line in result_lines(report):
        say(line)


def print_cost(cost: DryRunReport, indent: str = "") -> None:
    """Prints what a run costs, by one step of it."""
    peak = cost.peak_memory
    memory = "is unknown: this system does not tell" if peak is None else f"{peak / 2**20:.0f} MiB"
    say(f"{indent}loss {cost.loss:.6g}; a step takes {cost.step_seconds:.3g} s ({cost.wait:.1%} waiting for data)")
    epoch = f"about {cost.epoch_seconds:.3g} s with validation"
    say(f"{indent}an epoch has {cost.steps_per_epoch} steps and takes {epoch}")
    if cost.steps is not None:
        total = cost.epoch_seconds * cost.steps / cost.steps_per_epoch
        say(f"{indent}the run has {cost.steps} steps and takes about {total:.3g} s from the first on")
    say(f"{indent}peak memory {memory}")
