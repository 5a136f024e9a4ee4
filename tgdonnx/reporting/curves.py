"""Curves of a training run.

A run may have 100,000 steps; a curve has at most a few hundred points. Each then stands for a stretch of steps: the line is
their mean, the band reaches from the lowest to the highest. The page says how many steps a point stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.reporting.figures import BLUE, GREEN, GREY, ORANGE, one_plot
from tgdonnx.reporting.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
MOST_POINTS = 400
_LOGARITHMIC_FROM = 20.0


@dataclass(frozen=True)
class Downsampled:
    """A curve in few points.

    Attributes:
        x: of shape (points,): the last x of each stretch.
        mean: the mean of its values.
        low: the lowest of them.
        high: the highest.
        stretch: how many values a point stands for, the last one perhaps for fewer.
    """

    x: Array
    mean: Array
    low: Array
    high: Array
    stretch: int


@dataclass(frozen=True)
class Curve:
    """A figure and what its caption has to say.

    Attributes:
        svg: the figure.
        logarithmic: whether its vertical axis is.
        stretch: how many values a point stands for.
    """

    svg: str
    logarithmic: bool
    stretch: int


def downsample(x: Array, values: Array, most: int = MOST_POINTS) -> Downsampled:
    """Returns a curve with at most ``most`` points.

    Args:
        x: of shape (n,), rising.
        values: of shape (n,), finite, n > 0.
        most: how many points there may be.
    """
    stretch = -(-len(values) // most)
    starts = np.arange(0, len(values), stretch)
    counts = np.diff(np.append(starts, len(values)))
    return Downsampled(
        x[starts + counts - 1].astype(np.float64),
        np.add.reduceat(values, starts) / counts,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
        stretch,
    )


def loss_curve(history: History, exported: Optional[int]) -> Curve:
    """Draws training loss (line with band, blue) and validation loss (squares, orange) against steps.

    Args:
        history: with at least one step or evaluation.
        exported: the step of the checkpoint that is exported, or None.
    """
    held_out = [(e.step, e.validation) for e in history.evaluations if e.validation is not None]
    shown = []
    stretch = 1
    with one_plot("loss") as (axes, drawn):
        if len(history.steps):
            downsampled = downsample(history.steps.astype(np.float64), history.losses)
            stretch = downsampled.stretch
            shown += _draw_steps(axes, downsampled)
        if held_out:
            steps, values = np.array(held_out, np.float64).T
            _draw_evaluations(axes, steps, values, ORANGE, "s")
            shown.append(values)
        logarithmic = _set_scale(axes, np.concatenate(shown) if shown else np.ones(1))
        _finish(axes, "loss", exported, logarithmic=logarithmic)
    return Curve(drawn[0], logarithmic, stretch)


def part_curve(name: str, history: History, losses: Array, exported: Optional[int]) -> Curve:
    """Draws the training loss of one of several outputs against steps.

    Args:
        name: of the figure, unique in its page.
        history: with at least one step.
        losses: of shape (steps,).
        exported: the step of the checkpoint that is exported, or None.
    """
    downsampled = downsample(history.steps.astype(np.float64), losses)
    with one_plot(name) as (axes, drawn):
        logarithmic = _set_scale(axes, np.concatenate(_draw_steps(axes, downsampled)))
        _finish(axes, "loss", exported, logarithmic=logarithmic)
    return Curve(drawn[0], logarithmic, downsampled.stretch)


def _draw_steps(axes: Axes, curve: Downsampled) -> list[Array]:
    """Draws what steps have, in blue; returns what is shown."""
    shown = [curve.mean]
    if curve.stretch > 1:
        axes.fill_between(curve.x, curve.low, curve.high, color=BLUE, alpha=0.2, linewidth=0)
        shown += [curve.low, curve.high]
    axes.plot(curve.x, curve.mean, color=BLUE, linewidth=1.4, marker="" if len(curve.x) > 40 else ".")
    return shown


def evaluation_curve(
    name: str, steps: Sequence[int], values: Sequence[float], exported: Optional[int], *, start: bool
) -> Curve:
    """Draws a metric against steps.

    Args:
        name: of the figure, unique in its page.
        steps: at which it was taken.
        values: finite, of the same length.
        exported: the step of the checkpoint that is exported, or None.
        start: whether the first value is the vendor's, and gets a line to compare with.
    """
    x, y = np.array(steps, np.float64), np.array(values, np.float64)
    with one_plot(name) as (axes, drawn):
        if start:
            axes.axhline(y[0], color=GREY, linewidth=1, linestyle=":")
        stretch = _draw_evaluations(axes, x, y, BLUE, "o")
        _finish(axes, "", exported, logarithmic=False)
    return Curve(drawn[0], False, stretch)


def blend_curve(name: str, blends: Sequence[float], values: Sequence[float], written: float, *, old: bool) -> str:
    """Draws a number against the blend, as SVG.

    Args:
        name: of the figure, unique in its page.
        blends: from 0 to 1.
        values: finite, of the same length.
        written: the blend of the tuned model.
        old: whether it is of the vendor's own task.
    """
    with one_plot(name, whole=False) as (axes, drawn):
        colour, marker = (ORANGE, "s") if old else (BLUE, "o")
        axes.plot(blends, values, color=colour, marker=marker, markersize=4, linewidth=1.4)
        axes.axvline(written, color=GREEN, linewidth=1.4)
        axes.set_xlabel("blend")
    return drawn[0]


def constant_rate(history: History) -> Optional[float]:
    """Returns the learning rate of all steps, if it was one."""
    noted = history.learning_rates[np.isfinite(history.learning_rates)]
    return float(noted[0]) if noted.size and noted[0] > 0 and bool((noted == noted[0]).all()) else None


def rate_curve(history: History) -> Curve:
    """Draws the learning rate against steps."""
    noted = np.isfinite(history.learning_rates)
    x, y = history.steps[noted].astype(np.float64), history.learning_rates[noted]
    with one_plot("rate") as (axes, drawn):
        downsampled = downsample(x, y)
        axes.plot(
            downsampled.x, downsampled.mean, color=BLUE, linewidth=1.4, marker="" if len(downsampled.x) > 1 else "."
        )
        axes.set_ylim(0, 1.08 * float(y.max()))
        _finish(axes, "learning rate", None, logarithmic=False)
    return Curve(drawn[0], False, downsampled.stretch)


def _draw_evaluations(axes: Axes, x: Array, y: Array, colour: str, marker: str) -> int:
    downsampled = downsample(x, y)
    if downsampled.stretch > 1:
        axes.fill_between(downsampled.x, downsampled.low, downsampled.high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        downsampled.x,
        downsampled.mean,
        color=colour,
        linewidth=1.4,
        marker=marker,
        markersize=4 if len(downsampled.x) <= 40 else 0,
        linestyle="-" if colour == BLUE else "--",
    )
    return downsampled.stretch


def _set_scale(axes: Axes, values: Array) -> bool:
    logarithmic = bool(values.min() > 0 and values.max() > _LOGARITHMIC_FROM * values.min())
    if logarithmic:
        axes.set_yscale("log")
    return logarithmic


def _finish(axes: Axes, label: str, exported: Optional[int], *, logarithmic: bool) -> None:
    if exported is not None:
        axes.axvline(exported, color=GREEN, linewidth=1.4)
    axes.set_xlabel("step")
    axes.set_ylabel(f"{label} (logarithmic)" if logarithmic else label)
    if logarithmic:
        axes.yaxis.set_minor_formatter(lambda _value, _position: "")
