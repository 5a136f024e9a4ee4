"""The table and the figure: what a network gains over the vendor's, at every hospital and on the vendor's own task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hospitals import HOSPITALS, VENDOR
from matplotlib.figure import Figure

Scores = Mapping[str, Mapping[str, float]]
PLACES = (*(hospital.name for hospital in HOSPITALS), VENDOR.name)
COLOURS = ("#9a9a9a", "#d8b365", "#2166ac", "#1b7837")


def table(scores: Scores) -> str:
    """Returns a table in Markdown: PSNR in dB."""
    heads = [*(f"at {name}" for name in PLACES[:-1]), "vendor's task"]
    lines = [f"| network | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    lines += [f"| {name} | {' | '.join(f'{found[place]:.2f}' for place in PLACES)} |" for name, found in scores.items()]
    return "\n".join(lines) + "\n"


def draw(scores: Scores, path: Path) -> None:
    """Draws the gains."""
    hospitals = PLACES[:-1]
    alone = {name: scores[f"{name} alone"] for name in hospitals}
    series = {
        "the network of one other hospital (mean)": [
            np.mean([alone[other][place] for other in hospitals if other != place]) for place in PLACES
        ],
        "its own": [alone[place][place] for place in hospitals],
        "federated": [scores["federated"][place] for place in PLACES],
        "centralised": [scores["centralised"][place] for place in PLACES],
    }
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, ((label, values), colour) in enumerate(zip(series.items(), COLOURS)):
        gains = [value - scores["vendor"][place] for value, place in zip(values, PLACES)]
        axes.bar(np.arange(len(gains)) + (number - 1.5) * 0.2, gains, 0.19, label=label, color=colour)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(PLACES)), [*hospitals, "the vendor's own task"])
    axes.set_ylabel("PSNR over the vendor's network, dB")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
