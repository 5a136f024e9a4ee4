"""tgdonnx gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import click

from tgdonnx.cli.collecting import collected
from tgdonnx.cli.common import json_option, output_option, overwrite_option
from tgdonnx.cli.data_options import reading_options
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import DATA, MODEL, Command, options_of
from tgdonnx.cli.output import print_json, remark, say
from tgdonnx.cli.paths import PATH
from tgdonnx.data import DataOptions
from tgdonnx.files.outputs import Kind
from tgdonnx.gating.fitting import ACCEPT
from tgdonnx.gating.gate import GateData, gate


@dataclass(frozen=True)
class Deciding:
    """What the detector is fitted on, what it accepts, where it looks, and what it gives out; see `gate`."""

    data: Optional[Path]
    held_out: Optional[Path]
    retain: Optional[Path]
    accept: Optional[float]
    layer: Optional[str]
    outputs: bool


@click.command(
    "gate",
    cls=Command,
    examples=("tgdonnx gate model.onnx tuned.onnx -o both.onnx --data new.npz --retain old.npz",),
)
@click.argument("vendor", type=PATH)
@click.argument("tuned", type=PATH)
@output_option("The file with both.", Kind.MODEL)
@options_of(MODEL)(
    "--input", "input_name", metavar="NAME", help="Add this model input, which sets g: 0 the vendor's, 1 the tuned."
)
@collected(
    "deciding",
    Deciding,
    options_of(DATA)("--data", type=PATH, help="Inputs of the new kind: fit a detector on them, which sets g."),
    options_of(DATA)("--held-out", type=PATH, help="Further new inputs, to judge the detector by."),
    options_of(DATA)("--retain", type=PATH, help="Inputs of the vendor's own task, to judge the detector by."),
    options_of(DATA)(
        "--accept",
        type=float,
        metavar="SHARE",
        help="Accept this share of the new inputs, each judged by a detector of the others: above 0.5, at most 1.  "
        f"[default: {ACCEPT}]",
    ),
    options_of(MODEL)(
        "--layer", metavar="NAME", help="Look in front of this layer, not of the earliest that separates."
    ),
    options_of(MODEL)(
        "--detector-outputs", "outputs", is_flag=True, help="Give out gate_is_new and gate_residual as well."
    ),
)
@reading_options
@device_option
@overwrite_option
@json_option
def command(
    vendor: Path,
    tuned: Path,
    output: Path,
    input_name: Optional[str],
    deciding: Deciding,
    reading: DataOptions,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write one file of both: VENDOR for known inputs, TUNED for new.

    A number g chooses, which an input of the model sets, or a detector fitted on new inputs alone; what it does not know
    goes to the vendor's side.
    """
    accept = ACCEPT if deciding.accept is None else deciding.accept
    if deciding.data is not None:
        data = GateData(deciding.data, deciding.held_out, deciding.retain, reading, accept)
    elif (deciding.held_out, deciding.retain, deciding.accept) != (None, None, None):
        raise click.UsageError("--held-out, --retain and --accept are for a detector; expected --data, to fit one on")
    elif reading != DataOptions():
        raise click.UsageError("options on reading data without data; expected --data, to fit a detector on")
    else:
        data = None
    report = gate(
        vendor,
        tuned,
        output,
        input_name=input_name,
        data=data,
        layer=deciding.layer,
        detector_outputs=deciding.outputs,
        device=device,
        overwrite=overwrite,
    )
    if as_json:
        print_json(report)
        return
    if report.why_branches:
        remark(f"both networks are branches of an If: {report.why_branches}")
    if report.separation is not None:
        say(f"{report.separation} go to the right side, in front of {report.layer!r}, fitted on {report.images}")
    for text in report.remarks:
        remark(text)
    say(f"{report.output}: {'what it adds times g' if report.form == 'maps' else 'the tuned branch where g > 0.5'}")
