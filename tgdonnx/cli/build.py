"""tgdonnx build."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.artifacts import BuildOptions, build
from tgdonnx.cli.build_options import build_options
from tgdonnx.cli.common import json_option, output_option, overwrite_option
from tgdonnx.cli.helping import OUTPUT, Command, options_of
from tgdonnx.cli.output import print_json, remark, say
from tgdonnx.cli.paths import PATH, OutputPath
from tgdonnx.files.outputs import Kind


@click.command(
    "build",
    cls=Command,
    examples=(
        "tgdonnx build masked.onnx -o run --loss l1",
        "tgdonnx build masked.onnx -o run --form thin --zip run.zip",
    ),
)
@click.argument("masked", type=PATH)
@output_option("The artifacts directory to make.", Kind.ARTIFACTS)
@build_options
@options_of(OUTPUT)(
    "--zip",
    "zipped",
    type=OutputPath(),
    metavar="FILE.zip",
    help="Write besides one file with that directory and the vendor's file, for a page or a device.",
)
@overwrite_option
@json_option
def command(
    masked: Path,
    output: Path,
    building: BuildOptions,
    zipped: Optional[Path],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make training artifacts, with masked gradients, of a MASKED model."""
    report = build(masked, output, building, zip=zipped, overwrite=overwrite)
    if building.gradient == "gate":
        remark("gate is no descent direction of the loss and was unstable in trials; mask is the default")
    for name in report.frozen:
        remark(f"{name} stays frozen: the output {report.options['output']!r} does not depend on it")
    for name in report.unthinned:
        remark(
            f"{name} trains in the masked form: its mask is per kernel, and no union of whole filters and whole maps"
        )
    if as_json:
        print_json(report)
    else:
        fed = ", ".join(
            f"{spec.name} {spec.dtype}"
            + (f" (the model's input {spec.vendor_name!r})" if spec.vendor_name and spec.role == "input" else "")
            for spec in report.inputs
        )
        say(f"{report.directory}: {len(report.trained)} tensors train, {report.rho:.2%} of the weights")
        say(f"a step is fed {fed}")
        if zipped is not None:
            say(f"{report.zip}: {zipped.stat().st_size:,} bytes, with the vendor's file")
