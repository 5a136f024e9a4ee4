"""Criteria that were fixed before a run, held against what both files came to.

Where there is nothing to measure, a criterion is not met.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.evaluating.evaluation import Evaluation
from tgdonnx.finetuning.acceptance import Acceptance, Criterion, place_of, require_judgeable


@dataclass(frozen=True)
class Judged:
    """A criterion, of all cases or of a subgroup.

    Attributes:
        criterion: in words.
        subgroup: the value of its column; None of all cases.
        cases: how many there are.
        before: the vendor's number; None where it is not finite.
        after: the tuned model's.
        found: what is held against the limit, in words.
        passed: whether it is met.
    """

    criterion: str
    subgroup: Optional[str]
    cases: int
    before: Optional[float]
    after: Optional[float]
    found: str
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """Whether all criteria are met.

    Attributes:
        passed: whether they are.
        title: of the criteria.
        file: the name of their file.
        sha256: of its bytes, as recorded before the first step.
        data: what they were judged on, in words.
        criteria: each, in every subgroup.
        problem: why nothing was judged, so that they are not met; empty if it was.
        groups: the name of the table of subgroups that they name; None if they name none.
        groups_sha256: of its bytes, as recorded.
    """

    passed: bool
    title: str
    file: str
    sha256: str
    data: str
    criteria: tuple[Judged, ...]
    problem: str = ""
    groups: Optional[str] = None
    groups_sha256: Optional[str] = None

    @classmethod
    def of(cls, acceptance: Acceptance, criteria: tuple[Judged, ...], *, data: str = "", problem: str = "") -> Verdict:
        """Returns the verdict by criteria, each of which was judged; or of a tuned model that could not be judged."""
        table = acceptance.groups
        return cls(
            not problem and all(each.passed for each in criteria),
            acceptance.content.title,
            acceptance.file,
            acceptance.sha256,
            data,
            criteria,
            problem,
            None if table is None else table.file,
            None if table is None else table.sha256,
        )


def judge(acceptance: Acceptance, evaluation: Evaluation) -> Verdict:
    """Holds criteria against an evaluation.

    Raises:
        DataError: they are not about what was measured; see `require_judgeable`.
    """
    measured = {name: output.classes for name, (output, _) in evaluation.measures().items()}
    evaluation = replace(evaluation, cases=acceptance.grouped(evaluation.cases))
    require_judgeable(acceptance, measured, evaluation.cases)
    judged = tuple(each for criterion in acceptance.content.criteria for each in _judged(criterion, evaluation))
    return Verdict.of(acceptance, judged, data=evaluation.data)


def _judged(criterion: Criterion, evaluation: Evaluation) -> Iterator[Judged]:
    output, metric = evaluation.measures()[criterion.metric]
    label = None if criterion.of_class is None else place_of(criterion.of_class, output.classes)
    for subgroup, chosen in _subgroups(criterion, evaluation):
        before, after = (file.score(metric, chosen, label) for file in (output.before, output.after))
        value = after - before if criterion.of == "change" else after
        passed = value >= criterion.limit if criterion.direction == "at-least" else value <= criterion.limit
        found = "nothing to measure" if math.isnan(value) else "infinite" if math.isinf(value) else f"{value:.6g}"
        yield Judged(criterion.describe(), subgroup, len(chosen), _finite(before), _finite(after), found, passed)


def _subgroups(criterion: Criterion, evaluation: Evaluation) -> Iterator[tuple[Optional[str], NDArray[np.intp]]]:
    if criterion.column is None:
        yield None, np.arange(len(evaluation.cases))
        return
    values = [case.columns[criterion.column] for case in evaluation.cases]
    for value in sorted(set(values)):
        yield value, np.flatnonzero([each == value for each in values])


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
