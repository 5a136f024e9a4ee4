"""Figures: the new task against the old along the blend."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from candidates import CANDIDATES
from curves import Scores, curve_of, mean_curve
from gates import ACCEPTED
from network import Network
from summary import Outcomes

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

_STYLES = {
    "full": ("tab:blue", ">"),
    "regrow": ("tab:red", "D"),
    "adapter": ("tab:purple", "^"),
    "regrow-small": ("tab:orange", "d"),
    "last-3": ("tab:green", "v"),
    "random": ("tab:gray", "o"),
    "readers": ("tab:cyan", "s"),
    "steepest": ("tab:brown", "p"),
    "fisher": ("gold", "h"),
    "random quarter": ("silver", "8"),
    "full at 3e-5": ("tab:olive", "<"),
    "regrow at 1e-4": ("tab:pink", "D"),
    "full, long": ("navy", ">"),
    "regrow, long": ("darkred", "D"),
    "adapter, long": ("indigo", "^"),
    "full at 3e-5, long": ("darkolivegreen", "<"),
    "full, longest": ("black", ">"),
    "regrow, longest": ("firebrick", "D"),
    "adapter, longest": ("darkviolet", "^"),
    "adapter of rank 2": ("plum", "2"),
    "adapter of rank 32": ("mediumorchid", "*"),
    "readers by use": ("teal", "s"),
}
_LONGER = {each.name for each in CANDIDATES if each.longer > 1}


def draw(network: Network, vendor: Scores, found: Outcomes, path: Path) -> None:
    """Draws the mean curve of every candidate over its seeds, from the vendor's network to a ring at blend 1.

    Dashed are long runs. Thin lines are single seeds, crosses the averaged weights of `full`, stars gated files, open
    ones where the detector accepts all training inputs, dots `full` stopped early.

    Args:
        network: what was tuned.
        vendor: scores of the vendor's network.
        found: the runs.
        path: to write.
    """
    figure, axis = plt.subplots(figsize=(9.5, 5.5), constrained_layout=True)
    for name, runs in found.items():
        colour, marker = _STYLES[name]
        curves = [curve_of(vendor, run["blends"]) for run in runs]
        mean = mean_curve(curves)
        for curve in curves[: len(curves) if len(curves) > 1 else 0]:
            axis.plot(curve.old, curve.new, color=colour, linewidth=0.5, alpha=0.4)
        dashes = "--" if name in _LONGER else "-"
        axis.plot(mean.old, mean.new, dashes, color=colour, marker=marker, markersize=4, label=f"{name} ({len(runs)})")
        axis.plot(mean.old[-1], mean.new[-1], marker, color=colour, markersize=10, fillstyle="none")
        for accept, fill in zip(ACCEPTED, ("full", "none")):
            gates = [run.get("gate", {}).get(f"{accept:g}", {}) for run in runs]
            gated = [gate for gate in gates if "new" in gate]
            if gated:
                at = [np.mean([gate[task]["score"] for gate in gated]) for task in ("old", "new")]
                label = f"{name}, gated, accepts {accept:.0%}"
                axis.plot(*at, "*", color=colour, markersize=13, fillstyle=fill, linestyle="none", label=label)
    if "full" in found:
        for part, mark, label in (("average", "x", "full, averaged"), ("early", ".", "full, stopped early")):
            points = [run[part] for run in found["full"] if part in run]
            if points:
                at = [
                    [np.mean([one[key][f"{task} test"][1] for one in points]) for key in points[0]]
                    for task in ("old", "new")
                ]
                axis.plot(*at, mark, color="navy", markersize=7, linestyle="none", label=label)
    axis.plot(vendor["old test"][1], vendor["new test"][1], "ko", markersize=7, label="the vendor's")
    axis.set(xlabel=f"old task: {network.unit}", ylabel=f"new task: {network.unit}")
    axis.set_title(f"{network.title}: test data over the blend, a ring at 1 (seeds)", fontsize=10)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)  # inside it hides what is gated
    figure.savefig(path, dpi=110)
    plt.close(figure)
