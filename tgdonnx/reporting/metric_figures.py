"""The figures of a page: metrics against steps, and what a blend does; and which rows of a long table are shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from tgdonnx.finetuning.reports import BlendCurve
from tgdonnx.reporting.curves import Curve, blend_curve, evaluation_curve
from tgdonnx.reporting.history import Evaluation, History
from tgdonnx.reporting.measures import titled

MOST_ROWS = 40


_METRICS = {
    "psnr": (
        "PSNR",
        "dB",
        "peak signal-to-noise ratio, 20 log10(data range / RMSE), mean over the samples; higher is better",
    ),
    "ssim": (
        "SSIM",
        "no unit",
        "structural similarity (Wang et al. 2004), at most 1, mean over the samples; higher is better",
    ),
    "rmse": ("RMSE", "unit of the data", "root mean square error, mean over the samples; lower is better"),
    "accuracy": ("accuracy", "fraction", "elements whose class is right; higher is better"),
    "iou": ("IoU", "fraction", "overlap, |A ∩ B| / |A ∪ B|, mean over the samples; higher is better"),
    "f1": (
        "F1",
        "fraction",
        "harmonic mean of precision and recall over all samples, mean over the classes; higher is better",
    ),
    "dice": ("Dice", "fraction", "overlap, 2 |A ∩ B| / (|A| + |B|), mean over the samples; higher is better"),
}


@dataclass(frozen=True)
class MetricFigure:
    """A curve of a metric.

    Attributes:
        name: of the metric.
        unit: of its values.
        meaning: what it is; empty if we do not know it.
        curve: the figure; None if there is one value only, or all are the same.
        constant: how many values there are, where all are the same; else 0.
        start: the vendor's value, before training; None if it was not taken.
        exported: the value of what is exported; None if it was not taken there.
    """

    name: str
    unit: str
    meaning: str
    curve: Optional[Curve]
    constant: int
    start: Optional[float]
    exported: Optional[float]


@dataclass(frozen=True)
class BlendFigure:
    """A number of the new task, or of the vendor's own, against the blend.

    Attributes:
        name: of the number.
        what: of which data it is.
        svg: the curve.
        start: the number at blend 0.
        written: the same at the blend of the tuned model; None if it was not evaluated there.
        end: the same at blend 1.
    """

    name: str
    what: str
    svg: str
    start: float
    written: Optional[float]
    end: float


@dataclass(frozen=True)
class Exported:
    """What is exported of a run: a checkpoint, or what lies between the start and it.

    Attributes:
        step: after which the checkpoint was written; None if nothing was trained.
        blend: how far the tuned model goes from the start (0) to the checkpoint (1).
        curve: what was evaluated between them; None if nothing was.
    """

    step: Optional[int]
    blend: float
    curve: Optional[BlendCurve]

    def value(self, logged: Mapping[int, float], name: str, *, old: bool = False) -> Optional[float]:
        """Returns a number of what is exported; None if it was not evaluated.

        Args:
            logged: the number by steps of the run.
            name: of the number.
            old: whether it is of the vendor's own task.
        """
        at_step = None if self.step is None else logged.get(self.step)
        if self.blend == 1 or at_step is None or self.curve is None:
            return at_step if self.blend == 1 else None
        blended = {point.blend: (point.retain if old else point.validation).get(name) for point in self.curve.curve}
        at_end = blended.get(1.0)
        # `tgdonnx blend` may have looked at other data than the run did.
        is_same_data = at_end is not None and math.isclose(at_end, at_step, rel_tol=1e-6)
        return blended.get(self.blend) if is_same_data else None


def metric_figures(
    history: History,
    names: Sequence[str],
    values_of: Callable[[Evaluation], Mapping[str, float]],
    exported: Exported,
    prefix: str,
    *,
    old: bool = False,
) -> tuple[MetricFigure, ...]:
    """Returns the figures of metrics.

    Args:
        history: what the log says.
        names: of the metrics.
        values_of: gives the metrics of an evaluation.
        exported: what is exported.
        prefix: of what the figures are called in the page.
        old: whether the metrics are of the vendor's own task.
    """
    figures = []
    for index, name in enumerate(names):
        found = [(e.step, values_of(e)[name]) for e in history.evaluations if name in values_of(e)]
        start, at_export = dict(found).get(0), exported.value(dict(found), name, old=old)
        curve = None
        constant = len(found) if len({value for _, value in found}) == 1 else 0
        if len(found) > 1 and not constant:
            steps, values = zip(*found)
            curve = evaluation_curve(f"{prefix}{index}", steps, values, exported.step, start=start is not None)
        output, space, metric = name.rpartition(" ")
        title, unit, meaning = _METRICS.get(metric, (metric, "", ""))
        title = f"{output}{space}{title}"
        figures.append(MetricFigure(title, unit, meaning, curve, constant, start, at_export))
    return tuple(figures)


def title_and_unit(metric: str) -> tuple[str, str]:
    """Returns how people write a metric, and its unit; empty where it has none."""
    title, unit, _ = _METRICS.get(metric, (metric, "", ""))
    return title, "" if unit in ("fraction", "no unit") else unit


def blend_figures(curve: BlendCurve, written: float) -> tuple[BlendFigure, ...]:
    """Returns the figures of what was evaluated between the start and the end of the run, where it is finite throughout."""
    figures = []
    first = curve.curve[0]
    for index, (name, old) in enumerate([*((n, False) for n in first.validation), *((n, True) for n in first.retain)]):
        found = {p.blend: (p.retain if old else p.validation).get(name) for p in curve.curve}
        values = [value for value in found.values() if value is not None]
        if len(values) == len(found):
            svg = blend_curve(f"blend{index}", list(found), values, written, old=old)
            title = titled(name, {metric: told[0] for metric, told in _METRICS.items()})
            what = "vendor's own task" if old else "validation data"
            figures.append(BlendFigure(title, what, svg, values[0], found.get(written), values[-1]))
    return tuple(figures)


def chosen_rows(evaluations: Sequence[Evaluation], exported: Optional[int]) -> tuple[Evaluation, ...]:
    """Returns at most 40 evaluations, evenly chosen; the first, the last and the exported one among them."""
    every = -(-len(evaluations) // (MOST_ROWS - 2))
    last = len(evaluations) - 1
    return tuple(e for i, e in enumerate(evaluations) if i % every == 0 or i == last or e.step == exported)
