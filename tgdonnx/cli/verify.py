"""tgdonnx verify."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.common import json_option
from tgdonnx.cli.helping import MODEL, Command, options_of
from tgdonnx.cli.output import print_json, say, styled
from tgdonnx.cli.paths import PATH
from tgdonnx.files.optionfiles import read_filters
from tgdonnx.reporting.verdict import changes, headline, sentences
from tgdonnx.verifying.verification import verify


@click.command(
    "verify",
    cls=Command,
    examples=(
        "tgdonnx verify model.onnx tuned.onnx",
        "tgdonnx verify model.onnx tuned.onnx --masked masked.onnx --json",
    ),
)
@click.argument("base", type=PATH)
@click.argument("tuned", type=PATH)
@options_of(MODEL)("--masked", type=PATH, help="The masked model, as evidence of what may differ.")
@options_of(MODEL)(
    "--filters", type=PATH, help="JSON file, weight name -> list of filters: what was to be retrained, from elsewhere."
)
@options_of(MODEL)("--verbose", "whole", is_flag=True, help="Name every filter that changed.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    base: Path,
    tuned: Path,
    masked: Optional[Path],
    filters: Optional[Path],
    whole: bool,
    as_json: bool,
) -> None:
    """Prove that TUNED is BASE but for values in retrained filters.

    Exit 1 if it is not. Which filters may differ is computed again from BASE by the selection in the record. Of a list of
    filters, of what was measured on data, and of rounds after the first, that cannot be done; then it is said that the
    record's word is taken.
    """
    report = verify(base, tuned, masked, None if filters is None else read_filters(filters))
    if as_json:
        print_json(report)
    else:
        for line in changes(report, whole=whole):
            say(f"changed  {line}")
        for violation in report.violations:
            say(styled("differs", "bold red"), f"  {violation}")
        if report.ok:
            say(styled("ok", "bold green"), f"  {headline(report)}")
            for sentence in sentences(report)[1 if report.proof == "identical" else 0 :]:  # the first is the headline
                say(f"    {sentence}")
    context.exit(0 if report.ok else 1)
