"""What the simulated scans look like: four patients, both versions of the software, four durations.

    python samples/pet/contact_sheet.py -o contact-sheet.png

Dark is hot. All images of a patient show one slice, and all its scans are thinned from one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from brain import brain
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from phantom import SIZE, VOXEL, Patient, Volume, pelvis, torso
from scanner import V1, V2, acquire, reconstruct, thin

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

SECONDS = (30.0, 60.0, 180.0, 600.0)
_HEIGHT, _WIDTH = 76, 110  # voxels that hold every patient


@dataclass(frozen=True)
class Row:
    """A patient, the slice that is shown, the uptake that is black, and how far it is enlarged."""

    title: str
    patient: Patient
    slice_: int
    peak: float
    zoom: float = 1.0


def patients() -> list[Row]:
    """Returns the patients, always the same."""
    rng = [np.random.default_rng([7, number]) for number in range(4)]
    return [
        Row("thin torso\nBMI 20", torso(rng[0], 20), 15, 5.0, 1.3),
        Row("thick torso\nBMI 36", torso(rng[1], 36), 8, 5.0),
        Row("pelvis with hot\nbladder and line", pelvis(rng[2]), 9, 5.0, 1.15),
        Row("brain", brain(rng[3]), 13, 10.0, 1.4),
    ]


def draw(rows: list[Row], seed: int) -> Figure:
    """Scans every patient, and draws truth and images: two rows each, version 1 above version 2."""
    figure = plt.figure(figsize=(10.4, 11.4))
    grid = figure.add_gridspec(
        2 * len(rows), 1 + len(SECONDS), left=0.015, right=0.995, top=0.97, bottom=0.005, wspace=0.03, hspace=0.04
    )
    for index, row in enumerate(rows):
        rng = np.random.default_rng([seed, index])
        full = acquire(row.patient, SECONDS[-1], rng)
        scans = [thin(full, seconds, rng) for seconds in SECONDS]
        truth = figure.add_subplot(grid[2 * index : 2 * index + 2, 0])
        _show(truth, row.patient.activity, row)
        truth.set_title(row.title, fontsize=12, pad=4)
        truth.set_xlabel(f"truth, white 0 to black {row.peak:g}", fontsize=10)
        _draw_scale(truth, row)
        for down, version in enumerate((V1, V2)):
            for across, (seconds, scan) in enumerate(zip(SECONDS, scans)):
                axis = figure.add_subplot(grid[2 * index + down, 1 + across])
                _show(axis, reconstruct(scan, version), row)
                if index == down == 0:
                    axis.set_title(f"{seconds:g} s", fontsize=12, pad=4)
                if across == 0:
                    axis.text(
                        0.03,
                        0.86,
                        version.name,
                        fontsize=11,
                        fontweight="bold",
                        color="tab:red",
                        transform=axis.transAxes,
                    )
    return figure


def _show(axis: Axes, volume: Volume, row: Row) -> None:
    axis.imshow(volume[row.slice_], cmap="gray_r", vmin=0, vmax=row.peak, interpolation="bilinear")
    axis.set(xticks=[], yticks=[])
    middle = (SIZE - 1) / 2
    axis.set_xlim(middle - _WIDTH / 2 / row.zoom, middle + _WIDTH / 2 / row.zoom)
    axis.set_ylim(middle + _HEIGHT / 2 / row.zoom, middle - _HEIGHT / 2 / row.zoom)
    for spine in axis.spines.values():
        spine.set_color("0.8")


def _draw_scale(axis: Axes, row: Row) -> None:
    """A bar of 10 cm."""
    share = 100 / VOXEL / (_WIDTH / row.zoom)
    axis.plot([0.03, 0.03 + share], [0.06, 0.06], color="black", linewidth=2, transform=axis.transAxes)
    axis.text(0.03, 0.09, "10 cm", fontsize=9, transform=axis.transAxes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws what the simulated scans look like.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--seed", type=int, default=1, help="of the counts; the patients are always the same")
    arguments = parser.parse_args()
    figure = draw(patients(), arguments.seed)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
