"""From the rows of a file of jobs to jobs: every cell is an option, checked as the command line checks it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.batching import BatchJob
from tgdonnx.cli.config import option_value
from tgdonnx.cli.job_files import JobFile, JobRow
from tgdonnx.cli.job_options import job_command
from tgdonnx.cli.paths import PathType
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.selection import STRATEGIES

OPTIONS = {
    option.lstrip("-"): parameter
    for parameter in job_command.params
    if isinstance(parameter, click.Option) and "--help" not in parameter.opts
    for option in parameter.opts
}
"""The options of a job by their names, without dashes."""

_PAIR = {"noise2noise-a": 0, "noise2noise-b": 1}
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
# Of each of these a job has one; what its row says takes the place of what is said for all.
_ALTERNATIVES = (
    frozenset(each.name for each in STRATEGIES),
    frozenset({"data", "pair"}),
    frozenset({"epochs", "steps"}),
)
_LONGEST, _ALIKE = 80, 0.7

Values = Mapping[str, Any]
"""Values of options as a shell or a file gives them, by the names of parameters."""


def jobs_of(path: Path, found: JobFile, asked: Values) -> tuple[list[BatchJob], list[DataError]]:
    """Returns the jobs of a file, and all that is wrong with it.

    Args:
        path: of the file; paths in it are from where it lies.
        found: what was read of it.
        asked: what the command line says for all jobs; a row wins over that, and it wins over the defaults of the file.
    """
    problems = [DataError(f"{path}, {each}") for each in found.problems]
    unknown = [*_unknown(found.defaults, "[defaults]"), *_unknown_columns(found.rows)]
    problems += [DataError(f"{path}, {each}") for each in unknown]
    try:
        general = _merged(_values(found.defaults, path.parent.resolve()), asked)
    except DataError as error:
        return [], [*problems, DataError(f"{path}, [defaults]: {error}")]
    jobs = []
    for row in found.rows:
        try:
            jobs.append(replace(_job(_merged(general, _values(row.values, path.parent.resolve()))), row=row.place))
        except (TgdonnxError, click.ClickException) as error:
            said = error.format_message() if isinstance(error, click.ClickException) else str(error)
            name = row.values.get("name")
            named = f", {name!r}" if isinstance(name, str) else ""
            problems.append(DataError(f"{path}, {row.place}{named}: {said}"))
    return jobs, problems


def _job(values: Values) -> BatchJob:
    context = job_command.make_context("job", [], default_map=dict(values))
    with context:
        job: BatchJob = job_command.invoke(context)
    return job


def _merged(general: Values, own: Values) -> dict[str, Any]:
    dropped = {name for group in _ALTERNATIVES if not group.isdisjoint(own) for name in group}
    return {**{name: value for name, value in general.items() if name not in dropped}, **own}


def _known(name: object) -> Optional[str]:
    """Returns an option as it is called; None if there is none of that name."""
    spelled = str(name).replace("_", "-").lstrip("-")
    return spelled if spelled in OPTIONS or spelled in _PAIR else None


def _unknown(values: Iterable[object], where: str) -> list[str]:
    said = []
    for name in values:
        if _known(name) is None:
            near = difflib.get_close_matches(str(name)[:_LONGEST].replace("_", "-"), [*OPTIONS, *_PAIR], 2, _ALIKE)
            meant = (
                f"; did you mean {' or '.join(map(repr, near))}?"
                if near
                else "; expected options of `tgdonnx batch`, without dashes"
            )
            said.append(f"{where}: unknown option {str(name)[:_LONGEST]!r}{meant}")
    return said


def _unknown_columns(rows: list[JobRow]) -> list[str]:
    """Names every unknown option once, where it is first."""
    first: dict[object, str] = {}
    for row in rows:
        for name in row.values:
            first.setdefault(name, row.place)
    return [said for name, place in first.items() for said in _unknown([name], place)]


def _values(given: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Returns values by the names of parameters, as a shell would give them, with paths from a directory on.

    Raises:
        DataError: a value is not what its option takes, or an option is given twice.
    """
    found: dict[str, Any] = {}
    pair: list[Optional[str]] = [None, None]
    for key, value in given.items():
        name = _known(key)
        if name is None:
            continue  # it is told of all rows at once
        if name in _PAIR:
            pair[_PAIR[name]] = _path(str(value), base)
            continue
        parameter = OPTIONS[name]
        if parameter.name in found:
            raise DataError(f"{name!r} is given twice")
        found[str(parameter.name)] = _value(name, parameter, value, base)
    if any(pair):
        if None in pair or "pair" in found:
            raise DataError("expected both of noise2noise-a and noise2noise-b, or noise2noise, a list of two")
        found["pair"] = pair
    return found


def _value(name: str, parameter: click.Option, value: Any, base: Path) -> Any:
    if parameter.is_flag and isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        value = value.lower() in _TRUE
    checked = option_value(name, parameter, value)
    if isinstance(parameter.type, PathType):
        return [_path(each, base) for each in checked] if isinstance(checked, list) else _path(checked, base)
    if name == "classes" and "," not in str(checked):
        return _path(str(checked), base)
    return checked


def _path(text: str, base: Path) -> str:
    return str(base / Path(text).expanduser()) if text else text
