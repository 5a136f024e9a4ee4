"""tgdonnx report."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.acceptance import print_verdict
from tgdonnx.cli.card_option import card_option
from tgdonnx.cli.common import json_option, output_option, overwrite_option
from tgdonnx.cli.data_options import reading_options
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import DATA, MODEL, Command, options_of
from tgdonnx.cli.output import print_json, remark, say, styled
from tgdonnx.cli.paths import PATH
from tgdonnx.data import DataOptions
from tgdonnx.reporting.page import report


@click.command(
    "report",
    cls=Command,
    examples=("tgdonnx report run --model model.onnx -o report.html",),
)
@click.argument("directory", type=PATH)
@output_option("The page to write, an HTML file.")
@options_of(MODEL)("--model", type=PATH, help="The vendor's file, to name it and verify against it.")
@options_of(MODEL)("--tuned", type=PATH, help="The tuned model to verify, instead of a fresh export.")
@options_of(DATA)(
    "--data", type=PATH, help="Compare both models on it, show its first samples, judge the criteria of train."
)
@card_option
@reading_options
@device_option
@overwrite_option
@json_option
def command(
    directory: Path,
    output: Path,
    model: Optional[Path],
    tuned: Optional[Path],
    data: Optional[Path],
    card: Optional[Path],
    reading: DataOptions,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write what was done in DIRECTORY as one HTML page.

    The page is self-contained. Exit 1 if the tuned model is not verified, or does not meet the criteria of its run.
    """
    if reading != DataOptions() and data is None:
        raise click.UsageError("--map, --layout and --scale are about --data, which is not given")
    made = report(
        directory,
        output,
        model=model,
        tuned=tuned,
        data=data,
        reading=reading,
        card=card,
        overwrite=overwrite,
        device=device,
    )
    if as_json:
        print_json(made)
    else:
        for reason in made.left_out:
            remark(reason)
        verdict = "verified" if made.verified else styled("NOT verified", "bold red")
        say(f"{made.output}: {made.size:,} bytes; the tuned model is ", verdict)
        if not made.as_exported:
            say(
                styled("NOT of this run", "bold red"),
                f": {tuned} is not what the checkpoint in {directory} gives; the page says so, too",
            )
        if card is not None:
            say(f"{card}: the record for machines")
        if made.acceptance is not None:
            print_verdict(made.acceptance)
    accepted = made.acceptance is None or made.acceptance.passed
    if not (made.verified and accepted):
        raise click.exceptions.Exit(1)
