"""Histograms of the scores of the input maps, one per layer, as paths of SVG in a box of 100 by 40."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.scoring import LayerScores

BINS = 20
WIDTH, HEIGHT = 100, 40


@dataclass(frozen=True)
class Histogram:
    """The scores of one layer.

    Attributes:
        node: the layer.
        maps: how many input maps it has.
        below: how many of them score below phi.
        median: of the scores; None if there are none.
        meaningless: path of the bars of scores below phi.
        useful: path of the bars of the others, above these.
        most: maps in the highest bar.
        notes: what a reader should know.
    """

    node: str
    maps: int
    below: int
    median: Optional[float]
    meaningless: str
    useful: str
    most: int
    notes: tuple[str, ...]


def score_histograms(layers: Iterable[LayerScores], phi: float) -> tuple[Histogram, ...]:
    """Returns a histogram per layer, in 20 bins of width 0.05."""
    return tuple(_histogram(layer, phi) for layer in layers)


def notes_of(histograms: Iterable[Histogram]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns every note once, with the layers that it is about."""
    found: dict[str, list[str]] = {}
    for each in histograms:
        for note in each.notes:
            found.setdefault(note, []).append(each.node)
    return tuple((note, tuple(nodes)) for note, nodes in found.items())


def _histogram(layer: LayerScores, phi: float) -> Histogram:
    kse = layer.kse
    low = np.histogram(kse[kse < phi], bins=BINS, range=(0, 1))[0]
    high = np.histogram(kse[kse >= phi], bins=BINS, range=(0, 1))[0]
    most = int((low + high).max())
    return Histogram(
        layer.node,
        layer.maps,
        int(low.sum()),
        float(np.median(kse)) if kse.size else None,
        _bars(np.zeros_like(low), low, most),
        _bars(low, high, most),
        most,
        layer.notes,
    )


def _bars(floor: NDArray[np.int64], counts: NDArray[np.int64], most: int) -> str:
    width, unit = WIDTH / BINS, HEIGHT / max(most, 1)
    bars = []
    for index in np.flatnonzero(counts):
        height = counts[index] * unit
        top = HEIGHT - floor[index] * unit - height
        bars.append(f"M{index * width + 0.3:.4g} {top:.4g}h{width - 0.6:.4g}v{height:.4g}h{0.6 - width:.4g}z")
    return "".join(bars)
