"""The command line: one module per command, which parses, makes one call and prints.

Exit status: 0 done, 1 the answer is no (``verify``, ``check``, ``sweep``), 2 wrong use or bad input, 130 and 143 stopped by
SIGINT or SIGTERM after saving (``train``, ``finetune``, ``compare``).
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

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
from tgdonnx.errors import StoppedError, TgdonnxError


class _Failure(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """Turns our errors into one or two lines and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        # It logs, with tracebacks, what it cannot infer in a damaged file; what matters of that we say ourselves.
        logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except StoppedError as error:
            click.echo(f"Error: {error}", err=True)
            raise click.exceptions.Exit(128 + error.signal) from error
        except TgdonnxError as error:
            raise _Failure(str(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort, KeyboardInterrupt, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params["verbose"]:
                traceback.print_exc(file=sys.stderr)
            raise _Failure(
                f"this is a fault of tgdonnx, not yours: {type(error).__name__}: {str(error).partition(chr(10))[0]}\n"
                "Please report it with the output of `tgdonnx --verbose ...`."
            ) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-v", "--verbose", is_flag=True, help="Show where a fault of tgdonnx happened.")
@click.version_option(package_name="tgdonnx")
def main(verbose: bool) -> None:  # _Group reads it
    r"""Adapt somebody else's ONNX conv net on this machine, and change nothing else.

    \b
    MODEL --mask--> MASKED --build--> DIR --train--> DIR --export--> TUNED --verify--> proof
    """


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
    main.add_command(command.command)
