"""Tables in Markdown, and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

_PLACES = {"v2-test-low": "v2, low BMI", "v2-test-high": "v2, high BMI", "v1-test": "v1"}


def tables(results: Any) -> str:
    """Returns all tables."""
    parts = [
        "## Networks\n",
        "| network | weights that train | steps | training loss | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, made in results.made.items():
        if "rho" in made:
            first, last = made["loss"]
            row = (f"{made['rho']:.1%}", made["steps"], f"{first:.5f} → {last:.5f}", f"{made['seconds']:.0f}")
            parts.append(f"| {name} | " + " | ".join(str(cell) for cell in row) + " |")
        elif "diverged" in made:
            parts.append(f"| {name} | diverged: {made['diverged']} | | | {made['seconds']:.0f} |")
    for metric, digits in (("psnr", 2), ("ssim", 3)):
        parts += [f"\n## {metric.upper()}, mean over patients (95 % interval)\n"]
        parts += ["| network | " + " | ".join(_PLACES.values()) + " |", "|---|" + "---|" * len(_PLACES)]
        for name, found in results.quality.items():
            cells = [found[place][metric] for place in _PLACES]
            parts.append(
                f"| {name} | "
                + " | ".join(f"{m:.{digits}f} ({a:.{digits}f}, {b:.{digits}f})" for m, a, b in cells)
                + " |"
            )
    parts += ["\n## Bias of lesions and noise of the liver, over realisations\n"]
    parts += [
        "| network | bias, low BMI % | CoV, low BMI % | bias, high BMI % | CoV, high BMI % |",
        "|---|---|---|---|---|",
    ]
    for name, found in results.ensemble.items():
        cells = [found[bmi][key] for bmi in ("low", "high") for key in ("mean_bias", "cov")]
        parts.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    parts += ["\n## Drop test\n", "| network | phi | filters dropped | conv weights | all parameters | change |"]
    parts += ["|---|---|---|---|---|---|"]
    for name, points in results.drop_test.items():
        for point in points:
            cells = [f"{point['phi']:g}", f"{point['filters']}"]
            cells += [f"{point['weights']:.1%}", f"{point['parameters']:.1%}", f"{point['change']:.3f}"]
            parts.append(f"| {name} | " + " | ".join(cells) + " |")
    if results.online:
        keys = list(next(iter(results.online.values())))
        parts += [
            "\n## A feature never trained on\n",
            "| network | " + " | ".join(keys) + " |",
            "|---|" + "---|" * len(keys),
        ]
        for name, found in results.online.items():
            parts.append(f"| {name} | " + " | ".join(f"{found[key]:.2f}" for key in keys) + " |")
    return "\n".join(parts) + "\n"


def draw_quality(shown: dict[str, dict[str, Any]], path: Path) -> None:
    """One slice of one patient of each cohort, by every network."""
    names = list(next(iter(shown.values())))
    figure, axes = plt.subplots(len(shown), len(names), figsize=(1.9 * len(names), 1.75 * len(shown)), squeeze=False)
    for index, (row, (place, images)) in enumerate(zip(axes, shown.items())):
        for axis, name in zip(row, names):
            _show(axis, images[name][10], 5.0)
            axis.set_title("" if index else name, fontsize=8)
        row[0].set_ylabel(_PLACES[place], fontsize=8)
    _save(figure, path)


def draw_row(images: dict[str, Any], path: Path, *, slice_: int, peak: float) -> None:
    """One slice by every network."""
    figure, axes = plt.subplots(1, len(images), figsize=(1.9 * len(images), 1.9), squeeze=False)
    for axis, (name, volume) in zip(axes[0], images.items()):
        _show(axis, volume[slice_], peak)
        axis.set_title(name, fontsize=8)
    _save(figure, path)


def draw_drop_test(results: Any, path: Path) -> None:
    """Change of the output and dropped parameters against phi."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    for (name, points), style in zip(results.drop_test.items(), ("o-", "s--")):
        phis = [point["phi"] for point in points]
        left.plot(phis, [point["change"] for point in points], style, label=name)
        right.plot(phis, [100 * point["parameters"] for point in points], style, label=name)
    left.set(xlabel="phi", ylabel="change of the output", yscale="log")
    right.set(xlabel="phi", ylabel="parameters dropped, %")
    left.legend()
    _save(figure, path)


def _show(axis: Any, image: Any, peak: float) -> None:
    middle = image[24:104, 14:114]
    axis.imshow(np.clip(middle, 0, None), cmap="gray_r", vmin=0, vmax=peak)
    axis.set(xticks=[], yticks=[])


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
