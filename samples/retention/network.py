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
PLACES: tuple[Place, ...] = ("new validation", "old validation", "new test", "old test")


@dataclass(frozen=True)
class HeldOut:
    """Data that nothing is trained on: ``inputs`` ``(N, ...)`` for the network, and the ``targets`` of what is read of it."""

    inputs: Array = field(repr=False)
    targets: Any = field(repr=False)


@dataclass(frozen=True)
class Quality:
    """What a network is worth on held-out data.

    Attributes:
        loss: by which rates and blends are chosen.
        score: the figure that is shown, the higher the better.
    """

    loss: float
    score: float


@dataclass(frozen=True)
class Judge:
    """How outputs are compared with targets.

    Attributes:
        loss: returns the mean loss.
        score: returns the figure that is shown, the higher the better.
    """

    loss: Callable[[Array, Any], float]
    score: Callable[[Array, Any], float]

    def quality(self, outputs: Array, targets: Any) -> Quality:
        """Compares outputs with targets, both ``(N, ...)``."""
        return Quality(self.loss(outputs, targets), self.score(outputs, targets))


@dataclass(frozen=True)
class Network:
    """One of the study's networks.

    Attributes:
        name: for files.
        title: for figures.
        unit: of the score.
        model: the vendor's file.
        input_name: of the model.
        loss: what training minimises.
        strategy: which filters the scores select.
        has_dead: whether these are dead: dropped, the output stays within the drop test's tolerance.
        rates: for names of candidates the learning rates to choose from.
        steps: of every run.
        batch: samples per step.
        data: makes the training data of a seed.
        reading: how it is read.
        held_out: the data to judge by.
        read: what of an output is looked at.
        judge: compares it with targets.
        gate_inputs: makes the new inputs that a detector is fitted on, of the size that the network is used at.
        old_losses: how much of the old score may be lost where curves are compared; the first limits the choice of a blend.
    """

    name: str
    title: str
    unit: str
    model: Path
    input_name: str
    loss: str
    strategy: tgdonnx.Strategy
    has_dead: bool
    rates: Mapping[str, tuple[float, ...]]
    steps: int
    batch: int
    data: Callable[[int], dict[str, Any]] = field(repr=False)
    reading: tgdonnx.DataOptions = field(repr=False)
    held_out: Mapping[Place, HeldOut] = field(repr=False)
    read: Callable[[Array], Array] = field(repr=False)
    judge: Judge = field(repr=False)
    gate_inputs: Callable[[], Array] = field(repr=False)
    old_losses: tuple[float, ...] = (0.5, 1.0, 1.5)

    def quality(self, outputs: Array, place: Place) -> Quality:
        """Judges what the model gives for the inputs of a place."""
        return self.judge.quality(self.read(outputs), self.held_out[place].targets)


def by_psnr(peak: float) -> Judge:
    """Returns a judge by the mean peak signal-to-noise ratio of the samples, in dB; the loss is the mean squared error."""

    def loss(outputs: Array, targets: Array) -> float:
        return float(np.mean((outputs - targets) ** 2, dtype=np.float64))

    def score(outputs: Array, targets: Array) -> float:
        errors = np.mean((outputs - targets) ** 2, axis=tuple(range(1, outputs.ndim)), dtype=np.float64)
        return float(np.mean(10 * np.log10(peak**2 / errors)))

    return Judge(loss, score)


def by_class() -> Judge:
    """Returns a judge of probabilities ``(N, classes)`` against indices: cross entropy, and the right ones in %."""

    def loss(outputs: Array, targets: NDArray[np.int64]) -> float:
        right = outputs[np.arange(len(targets)), targets]
        return float(-np.mean(np.log(np.maximum(right, 1e-12)), dtype=np.float64))

    def score(outputs: Array, targets: NDArray[np.int64]) -> float:
        return float(100 * np.mean(outputs.argmax(axis=1) == targets))

    return Judge(loss, score)


def by_boxes(threshold: float) -> Judge:
    """Returns a judge of maps ``(N, 1, H, W)`` of the probability of text against cores and whole boxes ``(N, 2, H, W)``.

    The loss is the binary cross entropy against the cores. The score is the F-measure, in %, of the share of the cores' pixels
    that are found, and the share of what is found that lies within boxes: how far a box is shrunk does not count.
    """

    def loss(outputs: Array, targets: Array) -> float:
        p, core = np.clip(outputs[:, 0], 1e-7, 1 - 1e-7), targets[:, 0]
        return float(-np.mean(core * np.log(p) + (1 - core) * np.log(1 - p), dtype=np.float64))

    def score(outputs: Array, targets: Array) -> float:
        found = outputs[:, 0] > threshold
        core, box = targets[:, 0] > 0, targets[:, 1] > 0
        recall, right = (found & core).sum() / core.sum(), (found & box).sum() / max(1, found.sum())
        return float(100 * 2 * recall * right / max(recall + right, 1e-12))

    return Judge(loss, score)
