"""tgdonnx apply."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.applying import FORMS, ApplyOptions, Form, apply
from tgdonnx.cli.collecting import collected
from tgdonnx.cli.common import json_option, model_argument, output_option, overwrite_option
from tgdonnx.cli.data_options import classes_option, reading_options
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import DATA, MODEL, READING, Command, options_of
from tgdonnx.cli.output import print_json, remark, say
from tgdonnx.cli.paths import PATH
from tgdonnx.cli.progress import counting_bar
from tgdonnx.cli.results import applied_lines
from tgdonnx.data import DataOptions
from tgdonnx.data.formats import describe_arrays
from tgdonnx.files.outputs import Kind


def tile_size(_context: click.Context, _parameter: click.Parameter, text: Optional[str]) -> Optional[tuple[int, ...]]:
    """Reads a size such as 256x256."""
    try:
        return None if text is None else tuple(int(size) for size in text.split("x"))
    except ValueError as error:
        raise click.BadParameter(f"expected a size such as 256x256, got {text!r}") from error


def _options(
    tile: Optional[tuple[int, ...]],
    outputs: tuple[str, ...],
    form: Optional[Form],
    suffix: Optional[str],
    device: str,
    argmax: bool,
) -> ApplyOptions:
    if argmax and form not in (None, "classes"):
        raise click.UsageError(f"--argmax gives classes; got --as {form} too")
    return ApplyOptions(tile, outputs, "classes" if argmax else form, suffix, device)


@click.command(
    "apply",
    cls=Command,
    examples=(
        "tgdonnx apply tuned.onnx --data scan.nii.gz -o clean.nii.gz",
        "tgdonnx apply tuned.onnx --data pictures -o classes.csv",
        "tgdonnx apply vendor.onnx --data 'pictures/*.png' --scale 255 --argmax -o labels",
    ),
)
@model_argument
@output_option(
    "The result to write: .npy, .npz (several outputs), .nii if the data is, .png, .tif, or .csv of a classifier; or a "
    "directory for the results of many files, or for a DICOM series that is derived from one.",
    Kind.RESULTS,
)
@options_of(DATA)(
    "--data",
    required=True,
    type=PATH,
    help=f"What to apply it to: {describe_arrays()}; a directory of such, or a pattern such as 'scans/*.png'; of several "
    "inputs, data as for train.",
)
@reading_options
@classes_option("those of the run of --artifacts, or of the record in a tuned MODEL, or else numbers")
@options_of(READING)("--artifacts", type=PATH, help="Prepare data as the run in this directory did.")
@collected(
    "options",
    _options,
    options_of(MODEL)("--tile", callback=tile_size, metavar="SIZE", help="Size of tiles, such as 256x256."),
    options_of(MODEL)(
        "--output",
        "outputs",
        multiple=True,
        metavar="NAME",
        help="Output to take, when the model has several. May be repeated for .npz.",
    ),
    options_of(MODEL)(
        "--as",
        "form",
        type=click.Choice(FORMS),
        help="What results are: images, of which scaling is undone; scores as they are; probabilities; or classes. "
        "Without it, what follows from training, or from how the model ends. Of a .csv, probabilities are a column per class.",
    ),
    options_of(MODEL)("--argmax", is_flag=True, help="The same as --as classes."),
    options_of(MODEL)(
        "--suffix", metavar=".SUFFIX", help="Of the results of many files; that of each file, if not given."
    ),
    device_option,
)
@overwrite_option
@json_option
def command(
    model: Path,
    output: Path,
    data: Path,
    reading: DataOptions,
    artifacts: Optional[Path],
    options: ApplyOptions,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Apply MODEL to images or volumes, by tiles where they are large.

    Tiles overlap as far as the model looks. Data is prepared as it is said; else as the run of --artifacts did; else as a tuned
    MODEL records.
    """
    with counting_bar() as show:
        report = apply(
            model,
            data,
            output,
            reading=reading,
            artifacts=artifacts,
            options=options,
            overwrite=overwrite,
            show=lambda progress: show(progress.done, progress.total, progress.case),
        )
    if as_json:
        print_json(report)
        return
    for text in report.remarks:
        remark(text)
    for line in applied_lines(report):
        say(line)
