"""Class weights of a loss from a file, as in ``ce(class_weights=weights.csv)``: the numbers take the place of its name.

- text: a number per line, in the model's order;
- CSV, TSV: a class and its weight per line, and perhaps a line of names of columns before;
- JSON: ``{"cat": 1, "dog": 2.5}``, or ``[1, 2.5]`` in the model's order.

Classes go by the names that ``--classes`` says, or by their places, from 0; every class stands there once.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import click

from tgdonnx.data.class_names import MOST_BYTES, read_classes, shown
from tgdonnx.errors import DataError
from tgdonnx.files.regular import open_regular

_NAMED = re.compile(r"(\bclass_weights\s*=\s*)('[^']+'|[^\s,()\[\]'][^,()\[\]']*)")


def with_weights(ctx: click.Context, _: click.Parameter, loss: str) -> str:
    """Returns a loss with the numbers of the files that it names, for an option; ``--classes`` is read before."""
    said: Union[Path, tuple[str, ...], None] = ctx.params.get("classes")

    def numbers(found: re.Match[str]) -> str:
        classes = read_classes(said) if isinstance(said, Path) else said
        weights = read_weights(Path(found[2].strip("' ")), classes or ())
        return f"{found[1]}[{','.join(map(repr, weights))}]"

    return _NAMED.sub(numbers, loss)


def read_weights(path: Path, classes: Sequence[str]) -> tuple[float, ...]:
    """Returns the weights in a file, in the order of the classes.

    Args:
        path: the file.
        classes: their names; none where nobody says them.

    Raises:
        DataError: the file cannot be read, a weight is no number, or a class is missing, unknown, or there twice.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
        pairs = _pairs(text, path.suffix.lower()) if len(content) <= MOST_BYTES else []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", remedy=_FORMS) from error
    except (ValueError, csv.Error, RecursionError) as error:
        raise DataError(f"{path} holds no weights of classes: {error}", remedy=_FORMS) from error
    if not pairs:
        raise DataError(f"{path} holds no weights of classes, or is too large", remedy=_FORMS)
    names = [name for name, _ in pairs]
    if None in names:
        return tuple(weight for _, weight in pairs)
    wanted = list(classes) or [str(place) for place in range(len(pairs))]
    if not classes and set(names) != set(wanted):
        raise DataError(
            f"{path} names classes ({shown([str(name) for name in names])}), and nothing says their places in the model",
            remedy="say their order: `classes`",
        )
    for what, found in (("lacks", set(wanted) - set(names)), ("names, beyond the classes,", set(names) - set(wanted))):
        if found:
            raise DataError(
                f"{path} {what} {shown(sorted(map(str, found)))}; expected a weight for each of {shown(wanted)}"
            )
    if len(names) > len(wanted):
        raise DataError(f"{path} names a class twice; expected a weight for each of {shown(wanted)}")
    weights = dict(pairs)
    return tuple(weights[name] for name in wanted)


_FORMS = "expected a number per line, CSV of class,weight, or JSON of both"


def _pairs(text: str, suffix: str) -> list[tuple[Optional[str], float]]:
    """Returns classes, None where they go by the order, with their weights."""
    if suffix == ".json":
        content: Any = json.loads(text)
        items = content.items() if isinstance(content, dict) else [(None, weight) for weight in content]
        return [(name, _number(weight)) for name, weight in items]
    rows = [line.strip() for line in text.splitlines() if line.strip()]
    between = next((each for each in ("\t", ";", ",") if rows and each in rows[0]), None)
    if between is None:
        return [(None, _number(row)) for row in rows]
    cells = [[cell.strip() for cell in row] for row in csv.reader(rows, delimiter=between, strict=True)]
    if any(len(row) != 2 for row in cells):
        raise ValueError("a line has other than two cells")
    if cells and not _is_number(cells[0][1]):
        del cells[0]  # names of columns
    return [(name, _number(weight)) for name, weight in cells]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not _is_number(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _is_number(value: Union[int, float, str]) -> bool:
    try:
        return abs(float(value)) < 1e30  # neither NaN nor infinite; the loss says what else it expects
    except (ValueError, OverflowError):
        return False
