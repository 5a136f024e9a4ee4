"""tgdonnx verify."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.options import json_option
from tgdonnx.cli.output import print_json, say, styled
from tgdonnx.cli.paths import PATH
from tgdonnx.reporting.tables import ranges
from tgdonnx.verification import verify


@click.command("verify")
@click.argument("base", type=PATH)
@click.argument("tuned", type=PATH)
@click.option("--masked", type=PATH, help="The masked model, as witness of what may differ.")
@json_option
@click.pass_context
def command(context: click.Context, base: Path, tuned: Path, masked: Optional[Path], as_json: bool) -> None:
    """Prove that TUNED is BASE with other values in retrained filters only; exit 1 if it is not."""
    report = verify(base, tuned, masked=masked)
    if as_json:
        print_json(report)
    else:
        for entry in report.changed:
            say(f"changed  {entry.name}: filters {ranges(entry.filters)}")
        for violation in report.violations:
            say(styled("differs", "bold red"), f"  {violation}")
        if report.ok:
            say(styled("ok", "bold green"), f"  nothing else differs, by {report.witness}")
    context.exit(0 if report.ok else 1)
