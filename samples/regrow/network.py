"""A vendor's network with a new task and its old one: what every candidate is trained on and judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import tgdonnx

Array = NDArray[np.float32]
Place = Literal["new validation", "old validation", "new test", "old test"]
ANY_CHANGE = 1e9
"""A tolerance for networks of which no phi stays within the default one: a reinitialisation that the tool would refuse."""

PLACES: tuple[Place, ...] = ("new validation", "old validation", "new test", "old test")


@dataclass(frozen=True)
class HeldOut:
    """Data that nothing is trained on: ``inputs`` ``(N, ...)`` for the network, and the ``targets`` of what is read of it."""

    inputs: Array = field(repr=False)
    targets: Array = field(repr=False)


@dataclass(frozen=True)
class Quality:
    """What a network is worth on held-out data.

    Attributes:
        loss: mean squared error, by which the best step is chosen.
        score: the figure that is shown, the higher the better.
    """

    loss: float
    score: float


@dataclass(frozen=True)
class Network:
    """One of the study's networks.

    Attributes:
        name: for files.
        title: for figures.
        unit: of the score.
        model: the vendor's file.
        input_name: of the model.
        rates: learning rates to choose from.
        phis: thresholds of the KSE to choose from.
        tolerance: the largest change that a reinitialisation may make, see `tgdonnx.regrowing.Reinitialization`.
        steps: of every run.
        batch: samples per step.
        data: makes the training data of a seed.
        reading: how it is read.
        held_out: the data to judge by.
        read: what of an output is looked at.
        score: compares outputs with targets; returns one figure for each sample.
        phi: the threshold that was chosen.
    """

    name: str
    title: str
    unit: str
    model: Path
    input_name: str
    rates: tuple[float, ...]
    phis: tuple[float, ...]
    tolerance: float
    steps: int
    batch: int
    data: Callable[[int], dict[str, Array]] = field(repr=False)
    reading: tgdonnx.DataOptions = field(repr=False)
    held_out: Mapping[Place, HeldOut] = field(repr=False)
    read: Callable[[Array], Array] = field(repr=False)
    score: Callable[[Array, Array], Any] = field(repr=False)
    phi: float = float("nan")

    def quality(self, outputs: Array, targets: Array) -> Quality:
        """Compares outputs with targets, both ``(N, ...)``."""
        loss = np.mean((outputs - targets) ** 2, dtype=np.float64)
        return Quality(float(loss), float(np.mean(self.score(outputs, targets))))


def psnr(peak: float) -> Callable[[Array, Array], Any]:
    """Returns what gives the peak signal-to-noise ratio of every sample, in dB."""

    def score(outputs: Array, targets: Array) -> Any:
        errors = np.mean((outputs - targets) ** 2, axis=tuple(range(1, outputs.ndim)), dtype=np.float64)
        return 10 * np.log10(peak**2 / errors)

    return score


def agreement(outputs: Array, targets: Array) -> Any:
    """Returns for every sample 100 where the largest class is the same, else 0."""
    return 100.0 * (outputs.argmax(axis=1) == targets.argmax(axis=1))
