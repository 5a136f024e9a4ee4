"""Tables, CSV or Parquet: a sample per row, a column per input and one for the target.

A cell is the path of a file, from where the table lies, a number, or, of the target of a classifier, the name of a class. A
column goes by its own name, by what it is mapped to, or by a usual one; others are left out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from tgdonnx.data.class_names import count_problem, describe_classes, in_order, shown
from tgdonnx.data.file_cache import FileCache, opened
from tgdonnx.data.format import Library
from tgdonnx.data.lazy_arrays import ArrayGroup, LazyArray
from tgdonnx.data.naming import resolved_map, targets_among
from tgdonnx.data.single import one_value, only_input, sample_file, takes_one_label, target_of
from tgdonnx.data.sources import Source
from tgdonnx.errors import DataError, MissingArrayError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec

PARQUET = Library("pyarrow.parquet", "pyarrow", "parquet")
SUFFIXES = (".csv", ".tsv", ".parquet")
USUAL_PATHS = ("path", "file", "filename", "image", "picture")

Cell = Union[str, float]


def is_table(path: Path) -> bool:
    """Whether the name of a file says that it is a table."""
    return path.suffix.lower() in SUFFIXES


def open_table(path: Path, inputs: Sequence[TensorSpec], mapped: Mapping[str, str], classes: Sequence[str]) -> Source:
    """Opens every row as a case.

    Args:
        path: the table.
        inputs: what a step is fed.
        mapped: which column is for which input.
        classes: names of classes in the model's order; those of the table, sorted, if empty.

    Raises:
        DataError: the table or a file cannot be read, a column is missing, or a cell is of no class. That there are more or
            fewer classes than the model has is in ``problems`` of the source.
        RuntimeMissingError: the library for a format is not installed.
    """
    columns = _read(path)
    chosen = _chosen(path, columns, inputs, resolved_map(mapped, inputs))
    target, kept = target_of(inputs), FileCache()
    names: tuple[str, ...] = ()
    told: list[str] = []
    problem: Optional[DataError] = None
    if TARGET in chosen and takes_one_label(target):
        columns[chosen[TARGET]], names = _labelled(path, columns[chosen[TARGET]], classes, told)
        problem = count_problem(names, target, str(path), order="user" if classes else "sorted") if names else None
    strata = _classes_of(columns[chosen[TARGET]], names) if TARGET in chosen and takes_one_label(target) else ()
    groups = []
    others = [column for column in columns if column not in chosen.values()]
    for row in range(len(next(iter(columns.values())))):
        arrays: dict[str, LazyArray] = {}
        for spec in inputs:
            if spec.name in chosen:
                column = chosen[spec.name]
                cell, name = columns[column][row], column if column in mapped else spec.name  # it is mapped afterwards
                where = f"{path}, row {row + 1}, {column!r}"
                arrays[name] = _array(cell, spec, where, path.parent, kept)
        said = {column: _text(columns[column][row]) for column in others}
        groups.append(ArrayGroup(f"row {row + 1}", arrays, columns=said))
    if not groups:
        raise DataError(f"{path} has no row")
    remarks = [f"{path}: column {column!r} is for {name!r}" for name, column in chosen.items() if column != name]
    remarks += [describe_classes(names, said=bool(classes))] if names else []
    remarks += told
    remarks += [f"{path}: columns left out: {shown(others)}"] if others else []
    problems = () if problem is None else (problem,)
    return Source(str(path), tuple(groups), path, tuple(remarks), kept.hashes, names, strata, problems)


def _read(path: Path) -> dict[str, list[Cell]]:
    """Returns the cells of every column."""
    if path.suffix.lower() == ".parquet":
        parquet: Any = PARQUET.load(str(path))
        try:
            with opened(path) as file:
                found = parquet.read_table(file).to_pydict()
        except DataError:
            raise
        except Exception as error:  # Arrow's readers raise whatever they stumble over
            raise DataError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}") from error
        return {str(name): [_cell(value) for value in cells] for name, cells in found.items()}
    with opened(path) as file:
        names, rows = rows_of(file.read(), str(path), between="\t" if path.suffix.lower() == ".tsv" else None)
    return {name: [_cell(row[place]) for row in rows] for place, name in enumerate(names)}


def rows_of(content: bytes, where: str, *, between: Optional[str] = None) -> tuple[list[str], list[list[str]]]:
    """Returns the names of the columns of a table as text, and the cells of its rows.

    Args:
        content: of the file.
        where: that is, for messages.
        between: what stands between cells; what the first line tells if None.

    Raises:
        DataError: it is no table, or empty; two columns have one name; a row has more or fewer cells than there are columns.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
        rows = list(csv.reader(lines, delimiter=between or _delimiter(lines), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where} cannot be read: {error}") from error
    rows = [row for row in rows if row]
    if not rows:
        raise DataError(f"{where} is empty; expected a line with the names of its columns, and one per sample")
    names, cells = rows[0], rows[1:]
    if len(set(names)) < len(names):
        raise DataError(
            f"{where} has two columns of the same name; expected {', '.join(dict.fromkeys(names))}, each once"
        )
    for number, row in enumerate(cells, 1):
        if len(row) != len(names):
            raise DataError(f"{where}, row {number} has {len(row)} cells; expected {len(names)}: {', '.join(names)}")
    return names, cells


def _delimiter(lines: Sequence[str]) -> str:
    """Returns what stands between the names of columns: a comma, or where there is none, a semicolon or tab."""
    first = next((line for line in lines if line), "")
    return next((each for each in (",", ";", "\t") if each in first), ",")


def _cell(value: object) -> Cell:
    """Returns a number where a cell is one, and else its text."""
    try:
        number = float(value)  # type: ignore[arg-type]  # what is no number raises
        return number if math.isfinite(number) else str(value)
    except (TypeError, ValueError):
        return "" if value is None else str(value)


def _chosen(
    path: Path, columns: Mapping[str, Sequence[Cell]], inputs: Sequence[TensorSpec], mapped: Mapping[str, str]
) -> dict[str, str]:
    """Returns which column is for what a step is fed."""
    for column in mapped:
        if column not in columns:
            raise MissingArrayError(f"{path} has no column {column!r}; it has {', '.join(columns)}", mapped[column])
    chosen = {name: column for column, name in mapped.items()}
    for spec in inputs:
        if spec.name not in chosen and spec.name in columns:
            chosen[spec.name] = spec.name
    for spec in inputs:
        if spec.name in chosen:
            continue
        left = [column for column in columns if column not in chosen.values()]
        if spec.name == TARGET:
            found = targets_among(left, inputs)
        else:
            found = [column for column in left if column.lower() in USUAL_PATHS] if only_input([*inputs]) else []
        if len(found) != 1:
            said = " or ".join(f"`map={{{column!r}: {spec.name!r}}}`" for column in (found or left)[:3])
            raise MissingArrayError(
                f"{path} has no column {spec.name!r}; it has {', '.join(columns)}",
                spec.name,
                remedy=f"say which it is: {said}" if said else "",
            )
        chosen[spec.name] = found[0]
    return chosen


def _labelled(
    path: Path, cells: Sequence[Cell], classes: Sequence[str], told: list[str]
) -> tuple[list[Cell], tuple[str, ...]]:
    """Returns cells as class indices, and the names of the classes: none where the cells are indices and nobody names them.

    Numbers are names where all that is named are numbers, or one of the cells is named; else they are indices.
    """
    numbers = [cell for cell in cells if isinstance(cell, float)]
    # The table's numbers are compared as numbers: a class that is called "01" is its 1.
    places = {_text(_cell(name)): place for place, name in enumerate(classes)}
    if len(places) < len(classes):
        raise DataError(f"two classes are the same number; expected a number of its own for each: {shown(classes)}")
    if len(numbers) == len(cells):
        named = any(_text(cell) in places for cell in cells) or (
            bool(classes) and all(isinstance(_cell(name), float) for name in classes)
        )
        if not named:
            if classes:
                told.append(
                    f"{path}: labels are numbers, and no names of classes: taken as indices of the classes, from 0"
                )
            return list(cells), tuple(classes)
        if any(places.get(_text(cell)) != cell for cell in numbers):
            told.append(f"{path}: labels are numbers, taken as the names of classes, not as their indices")
    for row, cell in enumerate(cells, 1):
        if _text(cell) not in places and _text(cell).strip().lower() in ("", "nan"):
            raise DataError(
                f"{path}, row {row} names no class: {_text(cell)!r}", remedy="leave out the row, or say its class"
            )
    names = tuple(classes) or in_order({_text(cell) for cell in cells})
    places = places or {name: place for place, name in enumerate(names)}
    if 0 < len(numbers) < len(cells):
        word = next(row for row, cell in enumerate(cells) if not isinstance(cell, float))
        told.append(
            f"{path}: labels are numbers, but not all (row {word + 1}: {_text(cells[word])!r}): taken as the names of classes"
        )
    for row, cell in enumerate(cells, 1):
        if _text(cell) not in places:
            raise DataError(f"{path}, row {row}: {_text(cell)!r} is no class; expected one of {shown(names)}")
    return [float(places[_text(cell)]) for cell in cells], names


def _classes_of(cells: Sequence[Cell], names: Sequence[str]) -> tuple[str, ...]:
    """Returns the class of every row, by its name where it has one."""
    known = {str(place): name for place, name in enumerate(names)}
    return tuple(known.get(_text(cell), _text(cell)) for cell in cells)


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return str(int(cell)) if cell == int(cell) else str(cell)
    return cell


def _array(cell: Cell, spec: TensorSpec, where: str, beside: Path, kept: FileCache) -> LazyArray:
    if isinstance(cell, float):
        if spec.dtype.startswith("int") and cell != int(cell):
            raise DataError(f"{where} is {cell:g}; expected a whole number")
        return one_value(cell, spec, where)
    if not cell:
        raise DataError(f"{where} is empty; expected the path of a file, or a number")
    try:
        return sample_file(beside / cell, kept)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
