"""The command line: one module per command, which parses, makes one call and prints.

Exit status: 0 done, 1 the answer is no (``verify``, ``check``, ``sweep``, ``report``), 2 wrong use or bad input, 130 and 143
stopped by SIGINT or SIGTERM (after saving: ``train``, ``finetune``, ``compare``), 141 nobody reads the output any more.
"""

from __future__ import annotations

import click

from tgdonnx.cli import (
    apply,
    build,
    check,
    compare,
    export,
    finetune,
    inspect,
    mask,
    report,
    score,
    sweep,
    trace,
    train,
    verify,
)
from tgdonnx.cli.guarding import guard
from tgdonnx.cli.outermost import Outermost

# The character \b keeps the line from being wrapped; in a docstring, which has to be a raw one here, it would be two.
_HELP = """Adapt somebody else's ONNX conv net on this machine, and change nothing else.

\b
MODEL --mask--> MASKED --build--> DIR --train--> DIR --export--> TUNED --verify--> proof
"""


@click.group(
    help=_HELP, cls=Outermost, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show warnings of libraries, and where a fault of tgdonnx happened."
)
@click.version_option(package_name="tgdonnx")
def main(verbose: bool) -> None:  # Outermost reads it
    """Holds the commands."""


for command in (
    inspect,
    score,
    trace,
    check,
    sweep,
    mask,
    build,
    train,
    export,
    verify,
    finetune,
    compare,
    apply,
    report,
):
    main.add_command(guard(command.command))
