"""Figures: the new task against the old along every curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from summary import Curve, mean_curve

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

_STYLES = {
    "paper": ("tab:gray", "o"),
    "readers": ("tab:cyan", "s"),
    "regrow": ("tab:red", "D"),
    "isolate": ("tab:purple", "^"),
    "last-3": ("tab:green", "v"),
    "first-2": ("tab:olive", "<"),
    "all": ("tab:blue", ">"),
}
_OTHERS = ("tab:orange", "black", "tab:pink", "tab:brown")


def draw(title: str, unit: str, curves: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """Draws one line per candidate through its looks, with the standard deviation over seeds as a cross at each.

    Args:
        title: of the figure.
        unit: of both axes.
        curves: for names of candidates the curves of the seeds.
        path: to write.
    """
    figure, axis = plt.subplots(figsize=(7.5, 5.5), constrained_layout=True)
    for number, (name, seeds) in enumerate(curves.items()):
        points = mean_curve(seeds)
        colour, marker = _STYLES.get(name, (_OTHERS[number % len(_OTHERS)], "P"))
        new, old = ([point[i] for point in points] for i in (1, 2))
        axis.errorbar(
            [each.mean for each in old],
            [each.mean for each in new],
            xerr=[each.deviation for each in old],
            yerr=[each.deviation for each in new],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.6,
            label=name,
        )
        axis.plot(old[-1].mean, new[-1].mean, marker, color=colour, markersize=10, fillstyle="none")
    axis.set(xlabel=f"old task: {unit}", ylabel=f"new task: {unit}")
    axis.set_title(f"{title}: test data along the runs, a ring at their ends", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
