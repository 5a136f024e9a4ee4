"""tgdonnx export."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.common import json_option, output_option, overwrite_option
from tgdonnx.cli.output import print_json, say
from tgdonnx.cli.paths import PATH
from tgdonnx.exporting import export
from tgdonnx.files.outputs import Kind


@click.command("export")
@click.argument("directory", type=PATH)
@output_option("The tuned model to write.", Kind.MODEL)
@click.option("--checkpoint", metavar="FILE", help="In DIRECTORY; checkpoint.best if there is one, else checkpoint.")
@overwrite_option
@json_option
def command(directory: Path, output: Path, checkpoint: Optional[str], overwrite: bool, as_json: bool) -> None:
    """Write the vendor's model with the filters trained in DIRECTORY; every other byte is the vendor's."""
    report = export(directory, output, checkpoint=checkpoint, overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        filters = sum(len(entry.filters) for entry in report.changed)
        say(f"{report.output}: {filters} rows of {len(report.changed)} tensors changed, from {report.checkpoint}")
