"""tgdonnx export."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.common import json_option, output_option, overwrite_option
from tgdonnx.cli.helping import OUTPUT, Command, options_of
from tgdonnx.cli.output import print_json, say
from tgdonnx.cli.paths import PATH
from tgdonnx.exporting import export
from tgdonnx.files.outputs import Kind


@click.command(
    "export",
    cls=Command,
    examples=(
        "tgdonnx export run -o tuned.onnx",
        "tgdonnx export run -o half.onnx --blend 0.5",
    ),
)
@click.argument("directory", type=PATH)
@output_option("The tuned model to write.", Kind.MODEL)
@options_of(OUTPUT)(
    "--checkpoint", metavar="FILE", help="In DIRECTORY; that of the best epoch if there is one, else the last."
)
@options_of(OUTPUT)(
    "--blend",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="How far to go from what training started from (0) to what it came to (1); of mode regrow, how loud the "
    "reinitialised filters are, and of mode adapter, the side paths.",
)
@options_of(OUTPUT)(
    "--merge",
    is_flag=True,
    help="Of mode adapter: side paths become changes of the weights beside them, and nothing is added; the outputs are equal "
    "to rounding.",
)
@overwrite_option
@json_option
def command(
    directory: Path,
    output: Path,
    checkpoint: Optional[str],
    blend: float,
    merge: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the vendor's model with the filters trained in DIRECTORY.

    Every other byte is the vendor's.
    """
    report = export(directory, output, checkpoint=checkpoint, blend=blend, merge=merge, overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        at = "" if report.blend == 1 else f", blended at {report.blend:g}"
        filters = sum(len(entry.filters) for entry in report.changed)
        say(f"{report.output}: {filters} rows of {len(report.changed)} tensors changed, from {report.checkpoint}{at}")
