"""A finished run between what it started from and what it came to: as a table, and as a plot of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from rich import box
from rich.console import Console
from rich.table import Table

from tgdonnx.files.model_file import StrPath, replacing
from tgdonnx.files.outputs import Output, require_outputs
from tgdonnx.finetuning.reports import BlendCurve, BlendPoint
from tgdonnx.reporting.legible import cell, sentence
from tgdonnx.reporting.measures import titled
from tgdonnx.reporting.plots import new_figure, require_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# As in `plots`.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#E69F00", "#009E73"
TITLES = {
    "loss": "loss",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "rmse": "RMSE",
    "accuracy": "accuracy",
    "dice": "Dice",
    "iou": "IoU",
    "f1": "F1",
}


NOTHING_USED = (
    "At 0 nothing is used of what was learnt: the network computes what training started from, in mode regrow without the "
    "reinitialised filters. Train longer, with another learning rate or selection, or on more data; or say how far to go, such "
    "as `blend=1`."
)
"""What is said where that is chosen."""


def print_blends(curve: BlendCurve, console: Console) -> None:
    """Prints one row per blend, and below the table which is chosen and why."""
    first = curve.curve[0]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    titles = ["blend", *(f"new {name}" for name in first.validation), *(f"old {name}" for name in first.retain)]
    for title in titles:
        table.add_column(title, justify="right", overflow="fold")
    for point in curve.curve:
        values = [f"{point.blend:g}", *map(_number, point.validation.values()), *map(_number, point.retain.values())]
        table.add_row(*map(cell, values), style="bold green" if point.blend == curve.chosen else None)
    console.print(table)
    console.print(cell("New task: the validation data. " + ("Old: the vendor's own task." if first.retain else "")))
    console.print(sentence(f"chosen: {curve.chosen:g} ({curve.reason})", "bold"))
    if curve.chosen == 0:
        console.print(sentence(NOTHING_USED))


def plot_blends(curve: BlendCurve, path: StrPath, *, overwrite: bool = False) -> None:
    """Draws the new task, and below it the vendor's own where it was measured, against the blend.

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
        RuntimeMissingError: matplotlib is not installed.
    """
    require_outputs([Output(Path(path))], [], overwrite=overwrite)
    path = require_plot(path, overwrite=overwrite)
    new, old = shown_metrics(curve)
    rows = 1 if old is None else 2
    figure = new_figure((6.4, 2.9 * rows))
    drawn = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    _draw(drawn[0], curve, [p.validation[new] for p in curve.curve], f"new task:\n{titled(new, TITLES)}", _BLUE, "o")
    if old is not None:
        _draw(
            drawn[1],
            curve,
            [p.retain[old] for p in curve.curve],
            f"vendor's own task:\n{titled(old, TITLES)}",
            _ORANGE,
            "s",
        )
    drawn[-1].set_xlabel("blend (0: what training started from, 1: what it came to)")
    drawn[0].set_title(f"chosen: {curve.chosen:g}", fontsize=10, color=_GREEN, loc="right")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)


def shown_metrics(curve: BlendCurve) -> tuple[str, Optional[str]]:
    """Returns what the new task is drawn by (its first metric, or the loss) and the vendor's own, if that was measured."""
    first: BlendPoint = curve.curve[0]
    new = next((name for name in first.validation if name != "loss"), "loss")
    return new, next(iter(first.retain), None)


def _draw(
    axes: Axes, curve: BlendCurve, values: Sequence[Optional[float]], label: str, colour: str, marker: str
) -> None:
    known = [(point.blend, value) for point, value in zip(curve.curve, values) if value is not None]
    axes.plot([blend for blend, _ in known], [value for _, value in known], color=colour, marker=marker, markersize=4)
    axes.axvline(curve.chosen, color=_GREEN, linewidth=1.2)
    axes.set_ylabel(label, parse_math=False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _number(value: Optional[float]) -> str:
    return "inf" if value is None else f"{value:.5g}"
