"""Names of classes: what labels count, in the order of the model's outputs."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Optional

from tgdonnx.errors import DataError
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.regular import open_regular
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec

MOST_BYTES = 2**20
_SHOWN = 10
_WRITTEN = 20  # names that a command may hold
Order = Literal["user", "data", "sorted"]
"""Who says in which order classes are: the user, the data, or nobody."""

_NUMBER = re.compile("[0-9]{1,18}")


def read_classes(path: StrPath) -> tuple[str, ...]:
    """Reads names of classes from a text file, one per line; lines without text do not count.

    Raises:
        DataError: it cannot be read, is no text, or has no name, or one twice.
    """
    try:
        with open_regular(Path(path)) as file:
            content = file.read(MOST_BYTES + 1)
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is no text; expected the name of a class per line") from error
    if len(content) > MOST_BYTES:
        raise DataError(f"{path} is too large for a list of classes; expected the name of a class per line")
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path} has no name of a class; expected one per line")
    check_classes(names)
    return names


def check_classes(names: Sequence[str]) -> None:
    """Checks that every class has a name of its own.

    Raises:
        DataError: two have the same, or one has none.
    """
    if "" in names:
        raise DataError(f"a class has no name; expected one for each of {len(names)}")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise DataError(f"two classes are called {twice!r}; expected a name of its own for each")


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Returns names of classes sorted: whole numbers by number, then the others as text."""
    numbers = {name: int(name) for name in names if _NUMBER.fullmatch(name)}
    return (*sorted(numbers, key=lambda name: (numbers[name], name)), *sorted({*names} - {*numbers}))


def count_problem(
    names: Sequence[str], target: Optional[TensorSpec], where: str, *, order: Order
) -> Optional[DataError]:
    """Returns what is wrong where a model has more or fewer classes than there are names.

    Args:
        names: of the classes.
        target: class indices; None where the data is read without.
        where: the data, for messages.
        order: who says which of the model's outputs they are. The names of folders alone do not tell.
    """
    counted = target.classes if target is not None else None
    if counted is None or counted == len(names):
        return None
    found = "1 class" if len(names) == 1 else f"{len(names)} classes"
    if len(names) > counted:
        return DataError(
            f"{where} has {found} ({shown(names)}), the model {counted}: classes cannot be added to a model",
            remedy="merge or leave out some, or ask for a model of as many outputs",
        )
    if order == "user":
        return DataError(f"{where}: {found} named ({shown(names)}), the model has {counted}; name all")
    filled = (*names, *(f"class{place}" for place in range(len(names), counted)))
    writable = counted <= _WRITTEN and len(set(filled)) == counted and not any("," in name for name in names)
    said = f"`classes={filled!r}`" if writable else "one per line, in a file: `classes='FILE'`"
    if order == "data":
        return DataError(
            f"{where} names {found} ({shown(names)}), the model has {counted}",
            remedy=f"name all: {said}",
            options={"classes": filled} if writable else None,
        )
    return DataError(
        f"{where} has {found} ({shown(names)}), the model {counted}: which of its outputs they are, the data does "
        "not say",
        remedy=f"name all {counted} in the model's order, {'such as ' if writable else ''}{said}",
    )


def shown(names: Sequence[str]) -> str:
    """Returns names, in words, the first of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def describe_classes(names: Sequence[str], *, said: bool) -> str:
    """Returns what is said of classes; ``said``: by the user or the data, else they are sorted, see `in_order`."""
    numbered = shown([f"{place} {name}" for place, name in enumerate(names)])
    numbers = sum(bool(_NUMBER.fullmatch(name)) for name in names)
    sorting = "by name" if not numbers else "by number" if numbers == len(names) else "numbers first, then by name"
    return f"{TARGET}: classes {numbered}" + (
        "" if said else f" ({sorting}; `classes` says the model's order, if it is another)"
    )
