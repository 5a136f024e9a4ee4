"""tgdonnx sweep, and what `--phi auto` of other commands does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

import click
from rich import progress as rich_progress

from tgdonnx.cli.collecting import collected
from tgdonnx.cli.common import ALPHA, NEIGHBOURS, json_option, model_argument, overwrite_option
from tgdonnx.cli.data_options import reading_options
from tgdonnx.cli.device_option import device_option
from tgdonnx.cli.helping import DATA, MODEL, OUTPUT, SELECTION, Command, options_of
from tgdonnx.cli.output import print_json, printing, remark, stderr
from tgdonnx.cli.paths import PATH, OutputPath
from tgdonnx.cli.workers_option import workers_option
from tgdonnx.cluster import Workers
from tgdonnx.data import DataOptions, DataSource
from tgdonnx.reporting.plots import plot_sweep, require_plot
from tgdonnx.reporting.tables import print_sweep
from tgdonnx.scoring import ScoreOptions
from tgdonnx.selection import Phi
from tgdonnx.sweeping import DEFAULT_PHIS, DEFAULT_SAMPLES, DEFAULT_TOLERANCE, Placement, sweep


@dataclass(frozen=True)
class DropTest:
    """How outputs are compared; see `sweep`."""

    samples: int
    phis: Optional[str]
    tolerance: float
    output: Optional[str]
    alpha: float
    k: int


@click.command(
    "sweep",
    cls=Command,
    examples=("tgdonnx sweep model.onnx --data new.npz --plot sweep.png",),
)
@model_argument
@options_of(DATA)(
    "--data",
    required=True,
    type=PATH,
    help="A few unlabelled images: an array per model input, as for `train`. A `target` is ignored.",
)
@reading_options
@collected(
    "test",
    DropTest,
    options_of(DATA)(
        "--samples",
        type=click.IntRange(1),
        default=DEFAULT_SAMPLES,
        show_default=True,
        help="Run on so many samples at most, spread evenly over the data.",
    ),
    options_of(SELECTION)(
        "--phi",
        "phis",
        metavar="P,...",
        help="Thresholds to try.  [default: 0.01, 0.02, and 0.05 to 0.95 in steps of 0.05]",
    ),
    options_of(SELECTION)(
        "--tolerance",
        type=float,
        default=DEFAULT_TOLERANCE,
        show_default=True,
        help="The largest change that is accepted: RMS of the change by the standard deviation of the vendor's output.",
    ),
    options_of(MODEL)(
        "--output", metavar="NAME", help="The output to look at; of several, the one that moves farthest."
    ),
    ALPHA,
    NEIGHBOURS,
)
@options_of(OUTPUT)("--plot", type=OutputPath(), help="Draw the curve: .png, .svg or .pdf.")
@device_option
@workers_option
@overwrite_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    data: Path,
    reading: DataOptions,
    test: DropTest,
    plot: Optional[Path],
    device: str,
    workers: Optional[Workers],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Recommend a PHI: set filters below it to zero, look at the output.

    This is the drop test. Recommended is the largest PHI up to which every one that was tried keeps the output within the
    tolerance. Exit 1 if there is none: at this tolerance the network has no filters that it can do without.
    """
    if plot is not None:
        require_plot(plot, overwrite=overwrite)
    with sweep_bar() as show:
        report = sweep(
            model,
            data,
            phis=DEFAULT_PHIS if test.phis is None else _numbers(test.phis),
            tolerance=test.tolerance,
            output=test.output,
            samples=test.samples,
            scoring=ScoreOptions(test.alpha, test.k),
            reading=reading,
            device=Placement(device, workers),
            on_progress=show,
        )
    if plot is not None:
        plot_sweep(report, plot, overwrite=overwrite)
    if as_json:
        print_json(report)
    else:
        with printing() as console:
            print_sweep(report, console)
    context.exit(0 if report.recommended is not None else 1)


def drop_test(
    model: Path, data: DataSource, *, output: Optional[str], reading: DataOptions, device: str
) -> Callable[[float, float, int], Phi]:
    """Returns the function that finds phi for `--phi auto`: from tolerance, alpha and the number of neighbours.

    Args:
        model: the vendor's file.
        data: the images to look at.
        output: the output to look at; of several the one that moves farthest if None.
        reading: how they are read.
        device: where models run.
    """

    def recommend(tolerance: float, alpha: float, neighbours: int) -> Phi:
        with sweep_bar() as show:
            report = sweep(
                model,
                data,
                tolerance=tolerance,
                output=output,
                scoring=ScoreOptions(alpha, neighbours),
                reading=reading,
                device=device,
                on_progress=show,
            )
        strategy = report.strategy()
        point = next(point for point in report.points if point.phi == strategy.phi)
        remark(
            f"phi {strategy.phi:g} by the drop test on {report.samples} of {report.available} samples: without "
            f"{point.filters} of {report.filters} filters the output changes by {point.change:.3g} "
            f"(tolerance {tolerance:g})"
        )
        return strategy

    return recommend


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise click.UsageError(
            f"expected --phi as numbers with commas between, such as 0.1,0.2,0.3; got {text!r}"
        ) from error


@contextmanager
def sweep_bar() -> Iterator[Callable[[int, int], None]]:
    """Shows the passes over the data on stderr; gives the function to call after each."""
    console = stderr()
    bar = rich_progress.Progress(
        rich_progress.TextColumn("drop test"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("passes", total=None)
    try:

        def show(done: int, total: int) -> None:
            bar.start()  # not before there is something to show: bad input gets an error message alone
            bar.update(task, completed=done, total=total)
            if done == total:
                bar.stop()  # the terminal is free for what comes next

        yield show
    finally:
        if bar.live.is_started:
            bar.stop()
