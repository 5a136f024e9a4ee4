"""tgdonnx blend."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from tgdonnx.blending.blend import blend
from tgdonnx.blending.curve import BLENDS
from tgdonnx.cli.common import json_option, overwrite_option
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import DATA, OUTPUT, Command, options_of
from tgdonnx.cli.output import print_json, printing, remark, say
from tgdonnx.cli.paths import PATH, OutputPath
from tgdonnx.reporting.blends import plot_blends, print_blends
from tgdonnx.reporting.plots import require_plot


def _blends(_context: click.Context, _parameter: click.Parameter, text: Optional[str]) -> tuple[float, ...]:
    """Reads ``0,0.25,0.5``.

    Raises:
        BadParameter: it is no list of numbers.
    """
    if text is None:
        return BLENDS
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"expected numbers such as 0.25,0.5,0.75; got {text!r}") from error


@click.command(
    "blend",
    cls=Command,
    examples=("tgdonnx blend run --validation held_out.npz --retain old.npz --plot blend.png",),
)
@click.argument("directory", type=PATH)
@options_of(DATA)(
    "--validation", "--val", type=PATH, required=True, help="Data of the new task that was not trained on."
)
@options_of(DATA)(
    "--retain",
    type=PATH,
    help="Data of the vendor's own task; without `target`, agreement with the vendor's outputs is measured.",
)
@options_of(OUTPUT)(
    "--retain-limit",
    type=float,
    help="Choose the lowest loss with the first metric of --retain no worse than this from blend 0.",
)
@options_of(OUTPUT)(
    "--at", callback=_blends, metavar="A,...", help="The blends; 0 and 1 in any case.  [default: in tenths]"
)
@options_of(OUTPUT)("--plot", type=OutputPath(), help="Draw the curve: .png, .svg or .pdf.")
@device_option
@overwrite_option
@json_option
def command(
    directory: Path,
    validation: Path,
    retain: Optional[Path],
    retain_limit: Optional[float],
    at: tuple[float, ...],
    plot: Optional[Path],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Choose how far `export` goes from start to end of a run.

    The run in DIRECTORY is shown between what it started from and what it came to. Nothing is trained. Data is read and
    measured as that of the run was. Without a limit the choice is the smallest blend whose validation loss is within one
    standard error, over the samples, of the lowest.
    """
    if plot is not None:
        require_plot(plot, overwrite=overwrite)
    curve = blend(directory, validation, retain, at=at, retain_limit=retain_limit, device=device, on_remark=remark)
    if plot is not None:
        plot_blends(curve, plot, overwrite=overwrite)
    if as_json:
        print_json(curve)
    else:
        with printing() as console:
            print_blends(curve, console)
        say(f"write it: tgdonnx export {directory} --blend {curve.chosen:g} -o tuned.onnx")
