"""Criteria that a tuned model has to meet, fixed before the run: a TOML or JSON file that a person writes.

    format = 1
    title = "Change protocol 3, segmentation of the liver"

    [[criteria]]
    metric = "dice"            # as the log calls it; of several outputs as in "scores dice"
    class = "liver"            # of one class alone: its name, or its number from 0
    direction = "at-least"     # or "at-most"
    limit = 0.9
    column = "site"            # has to be met in every subgroup by this column of the validation table

    [[criteria]]
    metric = "rmse"
    direction = "at-most"
    limit = 0.0
    of = "change"              # of the tuned model's number less the vendor's on the same data

A run records the text of the file and its SHA-256 before the first step; what is judged afterwards is what was recorded. A
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
from tgdonnx.errors import DataError
from tgdonnx.files.optionfiles import parse_settings, read_settings
from tgdonnx.files.typed import Count, Sha256
from tgdonnx.finetuning.metrics import METRICS, metric_of

FORMAT = 1
Text = Annotated[str, msgspec.Meta(min_length=1)]


class Criterion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number that has to be on one side of a limit.

    Attributes:
        metric: which.
        direction: ``at-least``: not below the limit; ``at-most``: not above it.
        limit: finite.
        of_class: the class that it is of, in the file ``class``; None for all.
        column: in every subgroup by this column; None for all cases together.
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
    """What a file of criteria says: at least one criterion, all of which have to be met."""

    format: Literal[1]
    criteria: Annotated[tuple[Criterion, ...], msgspec.Meta(min_length=1)]
    title: str = ""


@dataclass(frozen=True)
class Acceptance:
    """Criteria as a run records them.

    Attributes:
        file: the name of the file.
        sha256: of its bytes.
        text: these, which are UTF-8.
        content: what it said.
    """

    file: str
    sha256: Sha256
    text: str
    content: Criteria


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
        cases: those that are judged on.

    Raises:
        DataError: a metric does not suit the loss, a class is none of the model's, or the data has no such column.
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
        if criterion.column is not None and any(criterion.column not in case.columns for case in cases):
            columns = dict.fromkeys(column for case in cases for column in case.columns)
            known = f"it has {', '.join(columns)}" if columns else "only tables have some: CSV, TSV or Parquet"
            raise DataError(f"{where}: the validation data has no other column {criterion.column!r}; {known}")


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
    return Acceptance(path.name, _hash(text), text, criteria)


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


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
