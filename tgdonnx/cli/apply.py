"""tgdonnx apply."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import click

from tgdonnx.applying import apply
from tgdonnx.cli.collecting import collected
from tgdonnx.cli.common import json_option, model_argument, output_option, overwrite_option
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import DATA, MODEL, READING, Command, options_of
from tgdonnx.cli.output import print_json, remark, say
from tgdonnx.cli.paths import PATH
from tgdonnx.data import Scale
from tgdonnx.data.formats import describe_arrays


def tile_size(_context: click.Context, _parameter: click.Parameter, text: Optional[str]) -> Optional[tuple[int, ...]]:
    """Reads a size such as 256x256."""
    try:
        return None if text is None else tuple(int(size) for size in text.split("x"))
    except ValueError as error:
        raise click.BadParameter(f"expected a size such as 256x256, got {text!r}") from error


def scale_of(_context: click.Context, _parameter: click.Parameter, text: Optional[str]) -> Optional[Scale]:
    """Reads how to scale: a number, or the name of a statistic."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text  # type: ignore[return-value]  # apply checks it


@dataclass(frozen=True)
class Running:
    """How the model is run; see `apply`."""

    tile: Optional[tuple[int, ...]]
    output_name: Optional[str]
    device: str


@click.command(
    "apply",
    cls=Command,
    examples=("tgdonnx apply tuned.onnx --data scan.nii.gz --artifacts run -o clean.nii.gz",),
)
@model_argument
@output_option("The result to write: .npy, NIfTI if the data is, or .csv of a classifier.")
@options_of(DATA)(
    "--data",
    required=True,
    type=PATH,
    help=f"What to apply it to: {describe_arrays()}; of a classifier, also a directory of pictures.",
)
@options_of(READING)("--layout", help="What the axes of the data are: NCHW, HW, HWC, DHW ...; as for train.")
@options_of(READING)(
    "--scale",
    callback=scale_of,
    metavar="HOW",
    help="Scale intensities, as for train, by this data; undone afterwards.",
)
@options_of(READING)(
    "--artifacts", type=PATH, help="Scale intensities and make pictures ready as the run in this directory did."
)
@collected(
    "running",
    Running,
    options_of(MODEL)("--tile", callback=tile_size, metavar="SIZE", help="Size of tiles, such as 256x256."),
    options_of(MODEL)("--output", "output_name", metavar="NAME", help="Output to take, when the model has several."),
    device_option,
)
@overwrite_option
@json_option
def command(
    model: Path,
    output: Path,
    data: Path,
    layout: Optional[str],
    scale: Optional[Scale],
    artifacts: Optional[Path],
    running: Running,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Apply MODEL to images or volumes, by tiles where they are large.

    Tiles overlap as far as the model looks.
    """
    report = apply(
        model,
        data,
        output,
        layout=layout,
        scale=scale,
        artifacts=artifacts,
        tile=running.tile,
        output_name=running.output_name,
        overwrite=overwrite,
        device=running.device,
    )
    if as_json:
        print_json(report)
    else:
        for text in report.remarks:
            remark(text)
        tiles = (
            ""
            if report.tiles == 1
            else f", {report.tiles} tiles each, overlapping by {'x'.join(map(str, report.overlap))}"
        )
        if report.dtype == "csv":
            say(f"{report.output}: {report.shape[0]} pictures")
            return
        say(f"{report.output}: {'x'.join(map(str, report.shape))} {report.dtype}{tiles}")
