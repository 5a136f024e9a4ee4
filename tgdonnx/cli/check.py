"""tgdonnx check."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Optional

import click

from tgdonnx.checking import check
from tgdonnx.cli.build_options import engine_option
from tgdonnx.cli.common import json_option, model_argument
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import MODEL, Command, options_of
from tgdonnx.cli.output import print_json, say, styled
from tgdonnx.engines import EngineName


@click.command(
    "check",
    cls=Command,
    examples=(
        "tgdonnx check model.onnx",
        "tgdonnx check masked.onnx --engine onnxruntime-training",
    ),
)
@model_argument
@options_of(MODEL)("--output", metavar="NAME", help="Output to train on, when the model has several.")
@engine_option
@device_option
@json_option
@click.pass_context
def command(
    context: click.Context, model: Path, output: Optional[str], engine: EngineName, device: str, as_json: bool
) -> None:
    """Tell whether MODEL can be trained here, operator by operator.

    MODEL may be masked. Exit 1 if it cannot be trained.
    """
    report = check(model, output=output, engine=engine, device=device)
    if as_json:
        print_json(report)
    else:
        for finding in report.findings:
            if finding.severity != "info":
                where = f" node {finding.node!r}:" if finding.node else ""
                remedy = f"; {finding.remedy}" if finding.remedy else ""
                say(f"{finding.code} {finding.severity}:{where} {finding.message}{remedy}")
        told = Counter((f.op_type, f.message) for f in report.findings if f.severity == "info")
        for (op_type, message), count in sorted(told.items()):
            say(f"{count:5} {op_type}: {message}")
        say(styled("trainable", "bold green") if report.trainable else styled("blocked", "bold red"))
    context.exit(0 if report.trainable else 1)
