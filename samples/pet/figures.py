"""The figures of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from comparison import TESTED
from evaluation import bootstrap

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

SHOWN = (
    "noisy",
    "v1-net",
    "v2-net",
    "FT-net",
    "TGD-net",
    "TGD-net, readers",
    "TGD-net, regrow",
    "full",
    "TGD N2N",
    "TGD2 N2N",
    "TGD N2N, regrow",
)
"""The networks in the pictures; the tables have all."""
_PEAKS = {"brain": 10.0}  # uptake that is shown black; 5 elsewhere


def draw_patients(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """One slice of one patient of each cohort, by every network that was not tuned online."""
    names = [name for name in next(iter(rows.values())) if "N2N" not in name]
    figure, axes = plt.subplots(len(rows), len(names), figsize=(1.7 * len(names), 1.4 * len(rows)), squeeze=False)
    for index, (row, (cohort, images)) in enumerate(zip(axes, rows.items())):
        for axis, name in zip(row, names):
            _show(axis, images[name], _PEAKS.get(cohort, 5.0))
            axis.set_title("" if index else name, fontsize=8)
        row[0].set_ylabel(TESTED[cohort], fontsize=8)
    _save(figure, path)


def draw_pelvis(images: dict[str, Any], path: Path) -> None:
    """The bladder and the line: above as they are, below what differs from the image without noise."""
    figure, axes = plt.subplots(2, len(images), figsize=(1.6 * len(images), 2.9), squeeze=False)
    for (above, below), (name, image) in zip(axes.T, images.items()):
        _show(above, image, 8.0)
        above.set_title(name, fontsize=8)
        _show(below, image - images["no noise"], 4.0, "RdBu_r")
    axes[1, 0].set_ylabel("difference", fontsize=8)
    _save(figure, path)


def draw_drop_test(found: dict[str, dict[str, Any]], images: dict[str, Any], path: Path) -> None:
    """Change of the output and dropped parameters against phi; below what v1-net makes of a patient without them."""
    figure = plt.figure(figsize=(1.6 * len(images), 4.6))
    above, below = figure.subfigures(2, 1, height_ratios=(1.7, 1))
    left, right = above.subplots(1, 2)
    for (name, of), style in zip(found.items(), ("o-", "s--")):
        phis = [point["phi"] for point in of["points"]]
        left.plot(phis, [point["change"] for point in of["points"]], style, label=name)
        right.plot(phis, [100 * point["parameters"] for point in of["points"]], style, label=name)
    tolerance = next(iter(found.values()))["tolerance"]
    left.axhline(tolerance, color="grey", linewidth=0.8)
    left.annotate("tolerance", (0.2, tolerance), va="bottom", fontsize=8, color="grey")
    left.set(xlabel="phi", ylabel="change of the output", yscale="log")
    right.set(xlabel="phi", ylabel="parameters dropped, %")
    left.legend()
    for axis, (name, image) in zip(below.subplots(1, len(images)), images.items()):
        _show(axis, image, 5.0)
        axis.set_title(name, fontsize=8)
    above.subplots_adjust(left=0.07, right=0.99, top=0.96, bottom=0.2, wspace=0.2)
    below.subplots_adjust(left=0.01, right=0.99, top=0.88, bottom=0.02, wspace=0.05)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_new_against_old(measured: dict[str, dict[str, Any]], path: Path) -> None:
    """What every network gains on the new software, and what it loses on the old, with intervals over patients."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    names = [name for name in measured if name != "noisy" and "N2N" not in name]
    for axis, cohort in zip(axes, ("v2-test-low", "v2-test-high")):
        for index, name in enumerate(names):
            x, y = (bootstrap(np.array(measured[name]["quality"][of]["psnr"])) for of in (cohort, "v1-test"))
            errors = [[[v[0] - v[1]], [v[2] - v[0]]] for v in (x, y)]
            marker = "os^Dv<>PX*hd"[index % 12]
            colour = plt.get_cmap("tab20")(2 * index % 20 + index // 10)
            axis.errorbar(
                x[0], y[0], errors[1], errors[0], fmt=marker, label=name, color=colour, elinewidth=0.6, markersize=6
            )
        axis.set(xlabel=f"PSNR, {TESTED[cohort]} (dB)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR, v1 (dB)")
    axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def _show(axis: Any, image: Any, peak: float, colours: str = "gray_r") -> None:
    low = 0.0 if colours == "gray_r" else -peak
    axis.imshow(image[24:104, 14:114], cmap=colours, vmin=low, vmax=peak)
    axis.set(xticks=[], yticks=[])


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
