"""Arrays as small PNGs in a page: grey in a window, colours of three channels, differences from blue to red, labels.

Pictures larger than a page needs are reduced by whole factors: a pixel is then the mean of a square, of labels the one in its
corner.
"""

from __future__ import annotations

import base64
import importlib
import io
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_SIDE = 256  # pixels; 20 pictures of this size take 1.7 MB at worst, as base 64
PERCENTILES = (0.5, 99.5)
_LABELS = (
    *("#1d1f21", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"),  # Okabe and Ito
    *("#8c6bb1", "#a6d854", "#66c2a5", "#fc8d62", "#e5c494", "#b3b3b3", "#1f78b4", "#fb9a99"),
)
"""Colours of labels, the first that of class 0; a seventeenth class has the second one again."""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        title: what it shows.
        url: a PNG, as a data URL.
        low: the value that is black, or in a difference the bluest; None of labels and of colours.
        high: the value that is white, or in a difference the reddest.
    """

    title: str
    url: str
    low: Optional[float] = None
    high: Optional[float] = None


def plane_of(array: Array) -> tuple[Array, str]:
    """Returns the middle of an array of shape (channels, [depth,] height, width), and which part that is."""
    channels, *depth = array.shape[:-2]
    parts = [f"channel {channels // 2 + 1} of {channels}"] if channels > 1 else []
    plane = array[channels // 2]
    if depth:
        parts.append(f"slice {depth[0] // 2 + 1} of {depth[0]}")
        plane = plane[depth[0] // 2]
    parts.append(f"{plane.shape[1]} × {plane.shape[0]} pixels")
    return plane, ", ".join(parts)


def window(plane: Array) -> tuple[float, float]:
    """Returns the values that are black and white: percentiles of a plane, that differ."""
    low, high = (float(value) for value in np.percentile(plane, PERCENTILES))
    if high <= low:
        low, high = float(plane.min()), float(plane.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def grey(title: str, plane: Array, low: float, high: float) -> Picture:
    """Returns a plane in a window."""
    return Picture(title, _encoded(_levels(plane, low, high)), low, high)


def difference(title: str, change: Array) -> Picture:
    """Returns a difference of planes, from blue (less) over white to red (more)."""
    most = float(np.percentile(np.abs(change), PERCENTILES[1])) or float(np.abs(change).max()) or 1.0
    return Picture(title, _encoded(_levels(change, -most, most), _diverging()), -most, most)


def colours(title: str, channels: Array) -> Picture:
    """Returns three channels, of shape (3, height, width), as red, green and blue, each in its own window."""
    return Picture(title, _encoded(np.stack([_levels(each, *window(each)) for each in channels], -1)))


def labels(title: str, plane: Array) -> Picture:
    """Returns a plane of class indices; what is less than 0 is white."""
    step = factor(plane.shape)
    cut = plane[::step, ::step].astype(np.int64)
    indices = np.where(cut < 0, 255, np.where(cut < len(_LABELS), cut, 1 + (cut - 1) % (len(_LABELS) - 1)))
    palette = [int(colour[at : at + 2], 16) for colour in _LABELS for at in (1, 3, 5)]
    palette += [255] * (768 - len(palette))
    return Picture(title, _encoded(indices.astype(np.uint8), palette))


def label_colour(number: int) -> str:
    """Returns the colour of a class."""
    return _LABELS[number if number < len(_LABELS) else 1 + (number - 1) % (len(_LABELS) - 1)]


def factor(shape: tuple[int, ...]) -> int:
    """Returns by which factor pictures are reduced that may be a little larger, as inputs with a margin are."""
    return max(1, round(max(shape) / MOST_SIDE + 0.4))


def _levels(plane: Array, low: float, high: float) -> NDArray[np.uint8]:
    step, plane = factor(plane.shape), plane.astype(np.float64)
    height, width = (max(1, side // step) for side in plane.shape)
    cut = plane[: height * step, : width * step]
    means = cut.reshape(height, min(step, cut.shape[0]), width, min(step, cut.shape[1])).mean(axis=(1, 3))
    levels: NDArray[np.uint8] = np.round(np.clip((means - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return levels


def _encoded(levels: NDArray[np.uint8], palette: Optional[list[int]] = None) -> str:
    picture = importlib.import_module("PIL.Image").fromarray(levels)
    if palette is not None:
        picture.putpalette(palette)
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _diverging() -> list[int]:
    """Returns 256 colours from blue over white to vermilion (Okabe and Ito), as red, green, blue in turn."""
    ends = np.array([[0, 114, 178], [255, 255, 255], [213, 94, 0]], np.float64)
    channels = [np.interp(np.linspace(0, 2, 256), (0, 1, 2), ends[:, c]) for c in range(3)]
    return [int(value) for value in np.round(np.stack(channels, 1)).reshape(-1)]
