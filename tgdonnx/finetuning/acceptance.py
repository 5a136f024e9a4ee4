"""Criteria that a tuned model has to meet, fixed before the run: a TOML or JSON file that a person writes.

    format = 1
    title = "Change protocol 3, segmentation of the liver"

    [[criteria]]
    metric = "dice"            # as the log calls it; of several outputs as in "scores dice"
    class = "liver"            # of one class alone: its name, or its number from 0
    direction = "at-least"     # or "at-most"
    limit = 0.9
    column = "site"            # has to be met in every subgroup by this column

    [[criteria]]
    metric = "rmse"
    direction = "at-most"
    limit = 0.0
    of = "change"              # of the tuned model's number less the vendor's on the same data

A column is one of a validation table; an array of the validation data with one value per sample, which no model is fed;
``folder``, the directory that a file lies in; or, with ``subgroups = "groups.csv"`` before the criteria, one of that table, see
`tgdonnx.finetuning.subgroups`.

A run records the text of both files and their SHA-256 before the first step; what is judged afterwards is what was recorded. A
record in which text, content and SHA-256 do not belong together is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Optional, Union

import msgspec

from tgdonnx.data.cases import Case
from tgdonnx.data.class_names import shown
from tgdonnx.errors import DataError
from tgdonnx.files.optionfiles import parse_settings, read_settings
from tgdonnx.files.typed import Count, Sha256
from tgdonnx.finetuning.metrics import METRICS, metric_of
from tgdonnx.finetuning.noise2noise import METRICS_OF_NOISE
from tgdonnx.finetuning.subgroups import GroupTable, read_groups

FORMAT = 1
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number that has to be on one side of a limit.

    Attributes:
        metric: which.
        direction: ``at-least``: not below the limit; ``at-most``: not above it.
        limit: finite.
        of_class: the class that it is of, in the file ``class``; None for all.
        column: in every subgroup by this column of the cases; None for all cases together.
        of: ``tuned``: the tuned model's number; ``change``: that less the vendor's.
    """

    metric: Text
    direction: Literal["at-least", "at-most"]
    limit: float
    of_class: Union[Text, Count, None] = msgspec.field(default=None, name="class")
    column: Optional[Text] = None
    of: Literal["tuned", "change"] = "tuned"

    def describe(self) -> str:
        """Returns it in words."""
        of_class = "" if self.of_class is None else f" of class {self.of_class}"
        change = "change of " if self.of == "change" else ""
        each = "" if self.column is None else f", for every {self.column}"
        return f"{change}{self.metric}{of_class} {self.direction.replace('-', ' ')} {self.limit:g}{each}"


class Criteria(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of criteria says: at least one criterion, all of which have to be met.

    Attributes:
        format: version of this format.
        criteria: they.
        title: for people.
        subgroups: the name of a table beside the file, of what cases belong to; None for none.
    """

    format: Literal[1]
    criteria: Annotated[tuple[Criterion, ...], msgspec.Meta(min_length=1)]
    title: str = ""
    subgroups: Optional[Text] = None


@dataclass(frozen=True)
class Acceptance:
    """Criteria as a run records them.

    Attributes:
        file: the name of the file.
        sha256: of its bytes.
        text: these, which are UTF-8.
        content: what it said.
        groups: the table of subgroups that it names; None if it names none.
    """

    file: str
    sha256: Sha256
    text: str
    content: Criteria
    groups: Optional[GroupTable] = None

    def grouped(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Returns cases with what the table of subgroups says of them; as `GroupTable.grouped`.

        Raises:
            DataError: as there.
        """
        return tuple(cases) if self.groups is None else self.groups.grouped(cases)


def place_of(label: Union[str, int], classes: Sequence[str]) -> Optional[int]:
    """Returns the place of a class, by its name, which comes first, or its number; None if there is none such."""
    if str(label) in classes:
        return classes.index(str(label))
    return label if isinstance(label, int) and label < len(classes) else None


def require_judgeable(acceptance: Acceptance, measured: Mapping[str, Sequence[str]], cases: Sequence[Case]) -> None:
    """Checks that criteria are about what is measured; to be called before the first step.

    Args:
        acceptance: the criteria.
        measured: for the names of all measures those of the classes that they are of.
        cases: those that are judged on, as `Acceptance.grouped` gives them.

    Raises:
        DataError: a metric does not suit the loss, a class is none of the model's, or a case has no such column, or
            nothing in it.
    """
    for number, criterion in enumerate(acceptance.content.criteria, 1):
        where = f"{acceptance.file}, criterion {number}"
        if criterion.metric not in measured:
            raise DataError(
                f"{where}: {criterion.metric!r} is not measured here; expected one of {', '.join(measured)}"
            )
        classes = measured[criterion.metric]
        if criterion.of_class is not None and not classes:
            raise DataError(f"{where}: {criterion.metric} has no classes", remedy="leave the class out")
        if criterion.of_class is not None and place_of(criterion.of_class, classes) is None:
            raise DataError(
                f"{where}: there is no class {criterion.of_class!r}; expected one of {', '.join(classes[:20])}"
            )
        if criterion.column is not None:
            _require_grouped(criterion.column, cases, where)


def against_noise(acceptance: Acceptance, measured: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Returns what is measured of outputs whose targets are noisy, too.

    Raises:
        DataError: a criterion is about what would mostly measure that noise.
    """
    for number, criterion in enumerate(acceptance.content.criteria, 1):
        if criterion.metric in measured and metric_of(criterion.metric) not in METRICS_OF_NOISE:
            raise DataError(
                f"{acceptance.file}, criterion {number}: {criterion.metric} against a noisy image is mostly that of its noise",
                remedy="say rmse, of which the change counts, or pass validation data with clean targets",
            )
    return {name: classes for name, classes in measured.items() if metric_of(name) in METRICS_OF_NOISE}


def _require_grouped(column: str, cases: Sequence[Case], where: str) -> None:
    if any(column not in case.columns for case in cases):
        columns = dict.fromkeys(name for case in cases for name in case.columns)
        known = f"it has {', '.join(columns)}" if columns else "it has none"
        raise DataError(
            f"{where}: the validation data has no other column {column!r}; {known}",
            remedy='name a table with a column of files beside the criteria (subgroups = "groups.csv")',
        )
    empty = [case.name for case in cases if not case.columns[column].strip()]
    if empty:
        raise DataError(
            f"{where}: {column!r} is empty of {len(empty):,} of {len(cases):,} cases: {shown(empty)}",
            remedy="say what they belong to",
        )


def read_acceptance(path: Path) -> Acceptance:
    """Reads a file of criteria.

    Raises:
        DataError: it cannot be read, is no such file, or names a metric that there is not.
    """
    try:
        content, text = read_settings(path)
        criteria = msgspec.convert(content, Criteria)
    except ValueError as error:  # those of msgspec are, too
        raise DataError(
            f"{path}: no criteria of acceptance: {error}", remedy="the guide on runs has an example"
        ) from error
    for number, criterion in enumerate(criteria.criteria, 1):
        where = f"{path}, criterion {number}"
        if metric_of(criterion.metric) not in METRICS:
            raise DataError(
                f"{where}: the metric {criterion.metric!r} is unknown; expected one of {', '.join(METRICS)}"
            )
        if not math.isfinite(criterion.limit):
            raise DataError(f"{where}: the limit is {criterion.limit:g}; expected a finite number")
    return Acceptance(path.name, _hash(text), text, criteria, _groups_of(criteria, path))


def _groups_of(criteria: Criteria, path: Path) -> Optional[GroupTable]:
    if criteria.subgroups is None:
        return None
    table = read_groups(path.parent / criteria.subgroups)
    if not any(criterion.column in table.columns() for criterion in criteria.criteria):
        raise DataError(
            f"{path}: no criterion is by a column of {criteria.subgroups}, which has {', '.join(table.columns())}",
            remedy=f"say column = {table.columns()[0]!r}, or leave subgroups out",
        )
    return table


def require_unchanged(acceptance: Acceptance) -> None:
    """Checks that criteria in a record are those of the file that was recorded.

    Raises:
        ValueError: their text has another SHA-256, or says something else.
    """
    found = _hash(acceptance.text)
    if found != acceptance.sha256:
        raise ValueError(
            f"the text of the criteria of {acceptance.file} has the SHA-256 {found}, and {acceptance.sha256} is recorded"
        )
    if msgspec.convert(parse_settings(acceptance.file, acceptance.text.encode()), Criteria) != acceptance.content:
        raise ValueError(f"its criteria are not those that the text of {acceptance.file} says")
    groups = acceptance.groups
    if (groups is None) != (acceptance.content.subgroups is None):
        raise ValueError(f"the table of subgroups that {acceptance.file} names is not recorded, or none is named")
    if groups is not None and _hash(groups.text) != groups.sha256:
        raise ValueError(
            f"the text of the subgroups of {groups.file} has the SHA-256 {_hash(groups.text)}, and {groups.sha256} is recorded"
        )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
