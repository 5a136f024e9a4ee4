"""tgdonnx finetune."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import click

from tgdonnx.artifacts import BuildOptions
from tgdonnx.cli.acceptance import NOT_ACCEPTED, acceptance_option, print_verdict
from tgdonnx.cli.blend_option import blend_option
from tgdonnx.cli.build_options import build_options
from tgdonnx.cli.card_option import card_option
from tgdonnx.cli.collecting import collected
from tgdonnx.cli.common import json_option, model_argument, output_option, overwrite_option
from tgdonnx.cli.config import config_option
from tgdonnx.cli.data_options import paired_data_options
from tgdonnx.cli.helping import OUTPUT, SELECTION, TRAINING, Command, options_of
from tgdonnx.cli.output import print_json, printing, remark, say, styled
from tgdonnx.cli.paths import PATH, OutputPath
from tgdonnx.cli.progress import training_bar
from tgdonnx.cli.rehearsal import print_rehearsal
from tgdonnx.cli.results import applied_lines, result_lines
from tgdonnx.cli.run_options import run_options, tensorboard_option
from tgdonnx.cli.selection_options import (
    Selecting,
    isolate_option,
    protect_option,
    reinitialization_options,
    selection_options,
)
from tgdonnx.cli.sweep import drop_test, sweep_bar
from tgdonnx.cli.train import STOPPING
from tgdonnx.files.outputs import Kind as OutputKind
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions, Watch
from tgdonnx.pipeline import FinetuneReport, Results, finetune
from tgdonnx.pipeline.rehearsing import rehearse
from tgdonnx.reporting.blends import print_blends
from tgdonnx.reporting.verdict import headline


@dataclass(frozen=True)
class Going:
    """How often the stages go round, and whether only in rehearsal."""

    rounds: int
    rehearsing: bool


@click.command(
    "finetune",
    cls=Command,
    examples=(
        "tgdonnx finetune model.onnx --data new.npz --validation held_out.npz -o tuned.onnx",
        "tgdonnx finetune model.onnx --data new.npz --validation-split 0.2 --phi auto --report report.html -o tuned.onnx",
        "tgdonnx finetune model.onnx --data new.npz --last 1 -o tuned.onnx --dry-run",
    ),
)
@model_argument
@output_option("The tuned model to write.", OutputKind.MODEL)
@selection_options
@build_options
@paired_data_options
@reinitialization_options
@isolate_option
@options_of(SELECTION)(
    "--sweep-data",
    type=PATH,
    help="Of --phi auto: unlabelled images to look at; those of --data if left out.",
)
@run_options
@tensorboard_option
@collected(
    "results",
    Results,
    options_of(OUTPUT)(
        "--apply",
        type=PATH,
        metavar="FULL",
        help="Apply the tuned model to this image or volume.",
    ),
    options_of(OUTPUT)(
        "--applied",
        type=OutputPath(OutputKind.RESULTS),
        metavar="OUT",
        help="Where to write the result; beside the tuned model.",
    ),
    options_of(OUTPUT)("--report", type=OutputPath(), metavar="FILE.html", help="Write a report, one page."),
    card_option,
    options_of(OUTPUT)(
        "--artifacts",
        type=OutputPath(OutputKind.ARTIFACTS),
        metavar="DIR",
        help="The run directory: artifacts, checkpoints, logs.  [default: beside the tuned model, such as tuned.run]",
    ),
    options_of(OUTPUT)(
        "--keep/--no-keep", default=True, help="Keep the run directory beside the tuned model.  [default: keep]"
    ),
    options_of(TRAINING)(
        "--resume", is_flag=True, help="Go on with the run that the same command left in the run directory."
    ),
    overwrite_option,
    blend_option,
    acceptance_option,
)
@collected(
    "going",
    Going,
    options_of(TRAINING)(
        "--rounds",
        type=int,
        default=1,
        show_default=True,
        help="Score, mask and train so often, each time from the last result.",
    ),
    options_of(TRAINING)(
        "--dry-run",
        "rehearsing",
        is_flag=True,
        help="Say all that would be done: data, selection, steps, files. Nothing is trained or written.",
    ),
)
@protect_option
@config_option
@json_option
def command(
    model: Path,
    output: Path,
    selecting: Selecting,
    building: BuildOptions,
    data: RunData,
    training: TrainOptions,
    tensorboard: Optional[Path],
    results: Results,
    going: Going,
    as_json: bool,
) -> None:
    """Adapt MODEL in one go: mask, build, train, export and verify.

    Where nothing is said of what trains, the drop test on --data chooses it, and it is said what and why. The run directory
    stays beside the tuned model; `blend`, `report` and `export` take it. What was stopped goes on with the same command and
    --resume.
    """
    if results.artifacts is not None and not results.keep:
        raise click.UsageError("--no-keep drops the run directory, and --artifacts names one to keep; leave one out")
    if selecting.sweep_data is not None and not selecting.by_drop_test:
        raise click.UsageError("--sweep-data is for the drop test, which only --phi auto does")
    looked_at = selecting.sweep_data or (None if isinstance(data.data, Noise2Noise) else data.data)
    if selecting.by_drop_test and looked_at is None:
        raise click.UsageError("with --noise2noise, --phi auto needs images to look at; name them with --sweep-data")
    recommend = drop_test(
        model, looked_at or Path(), output=building.shown_output, reading=data.reading, device=training.device
    )
    begin = time.monotonic()
    strategy = None if selecting.is_open else selecting.strategy(recommend, training.seed)
    looking = time.monotonic() - begin
    masking = selecting.masking(data.reading, training.seed, training.device)
    if going.rehearsing:
        with sweep_bar() as look:
            rehearsal = rehearse(
                model,
                data,
                output,
                strategy,
                training,
                building=building,
                masking=masking,
                rounds=going.rounds,
                results=results,
                watch=Watch(on_drop_test=look),
            )
        rehearsal = replace(rehearsal, before=looking + rehearsal.before)
        print_json(rehearsal) if as_json else print_rehearsal(rehearsal, going.rounds)
        return
    with sweep_bar() as look, training_bar() as show:
        report = finetune(
            model,
            data,
            output,
            strategy,
            training,
            building=building,
            masking=masking,
            rounds=going.rounds,
            results=results,
            watch=Watch(tensorboard, STOPPING, show.step, show.epoch, remark, on_drop_test=look),
        )
    print_json(report) if as_json else _print(report, results)
    if report.acceptance is not None and not report.acceptance.passed:
        raise click.exceptions.Exit(NOT_ACCEPTED)


def _print(report: FinetuneReport, results: Results) -> None:
    for number, earlier in enumerate(report.earlier, 1):
        losses = earlier.train.loss
        say(f"round {number}: {earlier.train.steps} steps, loss {losses[0]:.6g} to {losses[-1]:.6g}")
    if report.note is not None:
        remark(report.note)
    rows = sum(len(entry.filters) for entry in report.verify.changed)
    validated = report.train.epochs[0].validation is not None  # else the loss is among the lines below
    loss = f", loss {report.train.loss[0]:.6g} to {report.train.loss[-1]:.6g}" if validated else ""
    say(f"{report.train.steps} steps{loss}")
    if report.train.stop.rule != "length":
        say(f"stopped early: {report.train.stop.reason}")
    for line in result_lines(report.train):
        say(line)
    if report.blend is not None:
        with printing() as console:
            print_blends(report.blend, console)
    at = "" if report.export.blend == 1 else f", blended at {report.export.blend:g}"
    say(f"{report.export.output}: {rows} rows of {len(report.export.changed)} tensors changed{at}")
    if report.train.best.step == 0:
        before = "the round before" if report.earlier else "the vendor's model"
        remark(f"training did not improve on {before}: the best epoch is the start, and that is what was written")
    if report.apply is not None:
        for line in applied_lines(report.apply):
            say(line)
    if report.report is not None:
        say(f"{report.report.output}: {report.report.size:,} bytes")
    if results.card is not None:
        say(f"{results.card}: the record for machines")
    if report.build.directory is not None:
        say(f"{report.build.directory}: the run, which `tgdonnx.blend`, `tgdonnx.report` and `tgdonnx.export` take")
    say(styled("ok", "bold green"), f"  {headline(report.verify)}")
    if report.acceptance is not None:
        print_verdict(report.acceptance)
        if not report.acceptance.passed:
            say(f"{report.export.output} is written all the same")
