"""What both files came to, as tables and figures of the page: measures, classes, confusion matrices, boxplots over cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.evaluating.evaluation import Evaluation, Output
from tgdonnx.evaluating.found import Classes, Regions
from tgdonnx.finetuning.metrics import MetricName, is_better
from tgdonnx.reporting.boxplots import boxplot
from tgdonnx.reporting.metric_figures import title_and_unit

MOST_CLASSES, MOST_IN_MATRIX, MOST_CONFUSIONS, MOST_BOXES, FEWEST_CASES = 40, 12, 12, 10, 4
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """A number of the vendor's file and of the tuned one.

    Attributes:
        name: of the measure, as people write it.
        unit: of it; empty if it has none.
        before: the vendor's; NaN where nothing is to be measured, infinite psnr included as such.
        after: the tuned one's.
        verdict: ``better``, ``worse``, ``same``; empty where that cannot be said.
    """

    name: str
    unit: str
    before: float
    after: float
    verdict: str


@dataclass(frozen=True)
class ClassRow:
    """A class of an output: its number and name, how much of it the target has, and its measures."""

    number: int
    name: str
    count: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix.

    Attributes:
        title: of which file.
        rows: a row per class of the target: for each class of the output the count, as text, and its share of the row.
    """

    title: str
    rows: tuple[tuple[tuple[str, float], ...], ...]


@dataclass(frozen=True)
class Confusion:
    """How often a class is taken for another by both files."""

    wanted: str
    found: str
    before: str
    after: str


@dataclass(frozen=True)
class Boxes:
    """A boxplot over cases: what it shows, its SVG, and the same in words."""

    title: str
    svg: str
    words: str


@dataclass(frozen=True)
class OutputView:
    """An output of both files.

    Attributes:
        name: of the output; empty if there is one only.
        changes: measures of all cases.
        classes: the classes; none of values.
        classes_left_out: how many more there are, rarer than these.
        headings: of the measures of classes.
        matrices: of both files; none where classes are many, or there is none.
        names: of the classes of the matrices.
        confusions: the most frequent ones of the tuned file, where matrices are left out.
        boxes: over cases; none of few cases, and of classifiers.
    """

    name: str
    changes: tuple[Change, ...]
    classes: tuple[ClassRow, ...]
    classes_left_out: int
    headings: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    names: tuple[str, ...]
    confusions: tuple[Confusion, ...]
    boxes: tuple[Boxes, ...]


def view_of(evaluation: Evaluation) -> tuple[OutputView, ...]:
    """Returns what a page shows of every output."""
    several = len(evaluation.outputs) > 1
    return tuple(
        _output(output, output.name if several else "", f"output{number}")
        for number, output in enumerate(evaluation.outputs)
    )


def _output(output: Output, name: str, prefix: str) -> OutputView:
    rows, left_out, headings = _classes(output)
    matrices, confusions = _matrices(output)
    changes = tuple(
        _change(metric, output.before.score(metric), output.after.score(metric)) for metric in output.metrics
    )
    return OutputView(
        name,
        changes,
        rows,
        left_out,
        headings,
        matrices,
        output.classes if matrices else (),
        confusions,
        _boxes(output, prefix),
    )


def _change(metric: MetricName, before: float, after: float) -> Change:
    name, unit = title_and_unit(metric)
    verdict = ""
    if not (math.isnan(before) or math.isnan(after)):
        old, new = (None if math.isinf(value) else value for value in (before, after))
        verdict = "better" if is_better(metric, new, old) else "worse" if is_better(metric, old, new) else "same"
    return Change(name, unit, before, after, verdict)


def _classes(output: Output) -> tuple[tuple[ClassRow, ...], int, tuple[str, ...]]:
    before, after = output.before, output.after
    if not output.classes or (len(output.classes) == 1 and not isinstance(before, Classes)):
        return (), 0, ()
    metrics: tuple[MetricName, ...] = ("accuracy", "f1")
    if isinstance(after, Classes):
        amounts: Floats = after.counts().wanted
        counts = [f"{amount:,.0f}" for amount in amounts]
    elif isinstance(after, Regions):
        metrics = ("dice", "iou")
        amounts = after.wanted.sum(0)
        counts = [f"{int((after.wanted[:, number] > 0).sum()):,}" for number in range(len(output.classes))]
    else:
        return (), 0, ()
    frequent = sorted(np.argsort(-amounts, kind="stable")[:MOST_CLASSES].tolist())
    rows = tuple(
        ClassRow(
            number,
            output.classes[number],
            counts[number],
            tuple(_change(m, before.score(m, None, number), after.score(m, None, number)) for m in metrics),
        )
        for number in frequent
    )
    return rows, len(output.classes) - len(rows), tuple(title_and_unit(metric)[0] for metric in metrics)


def _matrices(output: Output) -> tuple[tuple[Matrix, ...], tuple[Confusion, ...]]:
    before, after = _matrix_of(output.before), _matrix_of(output.after)
    if before is None or after is None or len(output.classes) < 2:
        return (), ()
    shares = isinstance(output.after, Regions)
    if len(output.classes) <= MOST_IN_MATRIX:
        old, new = (
            _matrix(title, each, shares=shares) for title, each in (("vendor's model", before), ("tuned model", after))
        )
        return (old, new), ()
    wrong = after - np.diag(np.diag(after))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(place), len(wrong)) for place in order]
    return (), tuple(
        Confusion(output.classes[a], output.classes[b], f"{before[a, b]:,.0f}", f"{after[a, b]:,.0f}")
        for a, b in pairs
        if wrong[a, b] > 0
    )


def _matrix_of(file: object) -> Optional[Floats]:
    if isinstance(file, Classes):
        return file.counts().matrix
    return file.matrix if isinstance(file, Regions) else None


def _matrix(title: str, counts: Floats, *, shares: bool) -> Matrix:
    totals = counts.sum(1, keepdims=True)
    fractions = counts / np.where(totals > 0, totals, 1)
    rows = []
    for numbers, parts in zip(counts, fractions):
        texts = [f"{100 * part:.1f} %" if shares else f"{number:,.0f}" for number, part in zip(numbers, parts)]
        rows.append(tuple(zip(texts, parts.tolist())))
    return Matrix(title, tuple(rows))


def _boxes(output: Output, prefix: str) -> tuple[Boxes, ...]:
    if isinstance(output.after, Classes) or isinstance(output.before, Classes):
        return ()
    metrics = [metric for metric in output.metrics if metric not in ("f1",)]
    found = []
    for metric in metrics:
        before, after = _known(output.before.per_case(metric)), _known(output.after.per_case(metric))
        found += _drawn(f"{prefix}{metric}", title_and_unit(metric)[0], [("", before, after)])
    if isinstance(output.before, Regions) and isinstance(output.after, Regions) and len(output.classes) > 1:
        old, new = output.before.per_class("dice"), output.after.per_class("dice")
        occurring = np.argsort(-output.after.wanted.sum(0), kind="stable")[:MOST_BOXES]
        pairs = [(str(number), _known(old[:, number]), _known(new[:, number])) for number in sorted(occurring.tolist())]
        pairs = [pair for pair in pairs if min(len(pair[1]), len(pair[2])) >= FEWEST_CASES]
        found += _drawn(f"{prefix}classes", "Dice of every class, by its number", pairs) if pairs else []
    return tuple(found)


def _drawn(name: str, title: str, pairs: Sequence[tuple[str, Floats, Floats]]) -> list[Boxes]:
    if any(len(values) < FEWEST_CASES for _, *both in pairs for values in both):
        return []
    words = "; ".join(
        f"{f'class {label}: ' if label else ''}median {np.median(before):.4g} → {np.median(after):.4g}"
        for label, before, after in pairs
    )
    return [Boxes(title, boxplot(name, pairs), words)]


def _known(values: Floats) -> Floats:
    """Returns what boxes can be made of: an infinite psnr has no place on an axis."""
    return values[np.isfinite(values)]
