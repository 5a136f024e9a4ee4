"""Options and arguments of commands that need nothing else: importing them must not bring training and data along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tgdonnx.cli.helping import OUTPUT, SELECTION, options_of
from tgdonnx.cli.paths import PATH, OutputPath
from tgdonnx.files.outputs import Kind as OutputKind
from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = options_of(OUTPUT)("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
overwrite_option = options_of(OUTPUT)("--overwrite", is_flag=True, help="Replace what exists.")
model_argument = click.argument("model", type=PATH)


def output_option(what: str, kind: OutputKind = OutputKind.FILE) -> Callable[[Command], Command]:
    """The option -o, which every command that writes needs."""
    return options_of(OUTPUT)("-o", "output", required=True, type=OutputPath(kind), help=what)


ALPHA = options_of(SELECTION)(
    "--alpha",
    type=click.FloatRange(0),
    default=DEFAULT_ALPHA,
    show_default=True,
    help="Of scores: the weight of the entropy.",
)
NEIGHBOURS = options_of(SELECTION)(
    "-k", type=click.IntRange(1), default=DEFAULT_K, show_default=True, help="Of scores: how many nearest neighbours."
)


def score_options(command: Command) -> Command:
    """The parameters of the KSE."""
    return ALPHA(NEIGHBOURS(command))
