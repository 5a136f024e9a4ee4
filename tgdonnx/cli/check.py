"""tgdonnx check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import click

from tgdonnx.checking import CODES, CheckReport, Code, check
from tgdonnx.cli.build_options import engine_option
from tgdonnx.cli.common import json_option
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import MODEL, OTHER, Command, options_of
from tgdonnx.cli.output import print_json, say, styled
from tgdonnx.cli.paths import PATH
from tgdonnx.engines import EngineName


def _code(_context: click.Context, _parameter: click.Parameter, text: Optional[str]) -> Optional[Code]:
    """Finds a code by its name, or by its number.

    Raises:
        BadParameter: there is none.
    """
    if text is None:
        return None
    name = f"TGD{int(text):03}" if text.isascii() and text.isdecimal() and len(text) <= 3 else text.upper()
    if name in CODES:
        return CODES[name]
    raise click.BadParameter(f"there is no code {text[:20]!r}; --list shows all")


@click.command(
    "check",
    cls=Command,
    examples=(
        "tgdonnx check model.onnx",
        "tgdonnx check masked.onnx --engine onnxruntime-training",
        "tgdonnx check --explain TGD005",
    ),
)
@click.argument("model", type=PATH, required=False)
@options_of(MODEL)("--output", metavar="NAME", help="Output to train on, when the model has several.")
@engine_option
@device_option
@options_of(OTHER)(
    "--explain", metavar="CODE", callback=_code, help="Say what a code means and what helps; without MODEL."
)
@options_of(OTHER)("--list", "all_codes", is_flag=True, help="Say it of all codes; without MODEL.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    model: Optional[Path],
    output: Optional[str],
    engine: EngineName,
    device: str,
    explain: Optional[Code],
    all_codes: bool,
    as_json: bool,
) -> None:
    """Tell whether MODEL can be trained here, operator by operator.

    MODEL may be masked. Exit 1 if it cannot be trained.
    """
    if model is None:
        if explain is None and not all_codes:
            raise click.UsageError("expected MODEL; or --list, or --explain CODE, which need none")
        codes = list(CODES.values()) if explain is None else [explain]
        print_json({"codes": codes}) if as_json else _explain(codes)
        return
    if explain is not None or all_codes:
        raise click.UsageError("--explain and --list are about codes; leave MODEL out")
    report = check(model, output=output, engine=engine, device=device)
    print_json(report) if as_json else _print(report)
    context.exit(0 if report.trainable else 1)


def _print(report: CheckReport) -> None:
    for finding in report.findings:
        if finding.severity != "info":
            where = f" node {finding.node!r}:" if finding.node else ""
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            say(f"{finding.code} {finding.severity}:{where} {finding.message}{remedy}")
    told = Counter((f.op_type, f.message) for f in report.findings if f.severity == "info")
    for (op_type, message), count in sorted(told.items()):
        say(f"{count:5} {op_type}: {message}")
    say(styled("trainable", "bold green") if report.trainable else styled("blocked", "bold red"))
    first = next((finding.code for finding in report.findings if finding.severity == "error"), None)
    if first is not None:
        say(f"next: tgdonnx check --explain {first}")


def _explain(codes: Iterable[Code]) -> None:
    for code in codes:
        say(styled(code.code, "bold"), f" {' or '.join(code.severities)}: {code.meaning}")
        if code.remedy:
            say(f"    remedy: {code.remedy}")
