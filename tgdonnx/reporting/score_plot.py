"""A plot of the scores of a model, layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tgdonnx.files.model_file import StrPath
from tgdonnx.files.outputs import Output, require_outputs
from tgdonnx.inspection import InspectReport
from tgdonnx.reporting.legible import legible, shortened
from tgdonnx.reporting.plots import new_figure, require_plot, save_figure

_BLUE, _INK = "#0072B2", "#222222"
_MOST_LABELS = 120
_TALLEST = 30.0


def plot_scores(report: InspectReport, path: StrPath, *, overwrite: bool = False) -> None:
    """Draws for every layer the scores of its input maps, from the input of the model at the top to its output.

    A bar spans the scores of a layer, a thick one their middle half, a tick is their median; the line is phi.

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
        RuntimeMissingError: matplotlib is not installed.
    """
    require_outputs([Output(Path(path))], [report.model], overwrite=overwrite)
    path = require_plot(path, overwrite=overwrite)
    count = len(report.layers)
    figure = new_figure((7.0, min(1.4 + 0.22 * count, _TALLEST)))
    axes = figure.subplots()
    for row, layer in enumerate(report.layers):
        if layer.kse.size:
            low, lower, middle, upper, high = np.quantile(layer.kse, (0, 0.25, 0.5, 0.75, 1))
            axes.plot([low, high], [row, row], color=_BLUE, linewidth=1.2, solid_capstyle="butt")
            axes.plot([lower, upper], [row, row], color=_BLUE, linewidth=5, solid_capstyle="butt")
            axes.plot([middle], [row], "|", color=_INK, markersize=9, markeredgewidth=1.5)
    axes.axvline(report.phi, color=_INK, linestyle="--", linewidth=1, label=f"phi {report.phi:g}")
    axes.plot([], [], color=_BLUE, linewidth=5, label="middle half of a layer's maps")
    axes.plot([], [], "|", color=_INK, markersize=9, markeredgewidth=1.5, label="median")
    every = max(1, -(-count // _MOST_LABELS))
    shown = range(0, count, every)
    labels = [f"{shortened(legible(each.node), 28)}  {each.below_phi}/{each.kse.size}" for each in report.layers]
    axes.set_yticks(list(shown), [labels[row] for row in shown], fontsize=8, parse_math=False)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("KSE of the input maps (0 says nothing, 1 most)")
    axes.set_ylabel("layer, and how many of its maps score below phi")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    figure.suptitle(f"Scores of {legible(Path(report.model).name)}", fontsize=11, parse_math=False)
    save_figure(figure, path)
