"""Files of jobs: CSV, JSON lines or TOML, read as rows of values; what the values mean is for `tgdonnx.cli.job_rows`.

CSV is as spreadsheets write it: UTF-8 with or without a byte order mark, commas, semicolons or tabs, names of columns in the
first row. An empty cell says nothing, and neither does an empty row. In JSON lines every line is an object, in TOML every
``[[job]]`` is a job, and ``[defaults]`` is for all of them; there a value may be a list.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tgdonnx import bounds
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.files.optionfiles import parse_settings
from tgdonnx.files.regular import read_regular

_MOST_SHOWN = 80


@dataclass(frozen=True)
class JobRow:
    """What is said of a job.

    Attributes:
        place: where, such as ``row 3``.
        values: by option; text where the format has no other.
    """

    place: str
    values: Mapping[str, Any]


@dataclass
class JobFile:
    """What a file of jobs says.

    Attributes:
        rows: the jobs.
        defaults: what is said for all of them.
        problems: what is wrong with it.
    """

    rows: list[JobRow] = field(default_factory=list)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_jobs(path: Path) -> JobFile:
    """Reads a file of jobs.

    Raises:
        DataError: it cannot be read, or is none.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".toml": _toml}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise DataError(f"{path}: expected a file of jobs that ends in {', '.join(readers)}")
    try:
        data = read_regular(path, bounds.JOBS_BYTES)
    except OSError as error:
        if isinstance(error, TgdonnxError):
            raise
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no UTF-8 text: {error.reason} at byte {error.start}",
            remedy="save it as `CSV UTF-8` where it is from a spreadsheet",
        ) from error
    found = readers[suffix](path, text)
    if not found.rows and not found.problems:
        raise DataError(f"{path} holds no job")
    return found


def _csv(path: Path, text: str) -> JobFile:
    found = JobFile()
    first = next((line for line in text.splitlines() if line.strip()), "")
    between = "\t" if path.suffix.lower() == ".tsv" else next((each for each in ",;\t" if each in first), ",")
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True))
    except csv.Error as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    # Counted as spreadsheets do, from the names of the columns on.
    rows = [(number, row) for number, row in enumerate(lines, 1) if any(cell.strip() for cell in row)]
    if not rows:
        raise DataError(f"{path} is empty; expected a row with the names of columns, and one per job")
    names = [name.strip() for name in rows[0][1]]
    while names and not names[-1]:
        names.pop()
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise DataError(f"{path} has two columns {twice!r}" if twice else f"{path} has columns without a name")
    for number, row in rows[1:]:
        cells = [cell.strip() for cell in row]
        if any(cells[len(names) :]) or len(cells) < len(names):
            found.problems.append(f"row {number} has {len(cells)} cells; expected {len(names)}")
            continue
        values = {name: cell for name, cell in zip(names, cells) if cell}
        found.rows.append(JobRow(f"row {number}", values))
    return found


def _json_lines(_: Path, text: str) -> JobFile:
    found = JobFile()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = parse_settings("line.json", line.encode())
        except ValueError as error:
            found.problems.append(f"line {number} is no JSON: {error}")
            continue
        if isinstance(values, dict):
            found.rows.append(JobRow(f"line {number}", {name: v for name, v in values.items() if v is not None}))
        else:
            found.problems.append(f'line {number}: expected an object such as {{"name": "p1", "data": "p1.npz"}}')
    return found


def _toml(path: Path, text: str) -> JobFile:
    try:
        content = parse_settings("jobs.toml", text.encode())
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    unknown = [name for name in content if name not in ("defaults", "job")]
    if unknown:
        raise DataError(f"{path}: expected [defaults] and [[job]], got {json.dumps(unknown[0])[:_MOST_SHOWN]}")
    defaults, jobs = content.get("defaults", {}), content.get("job", [])
    if not isinstance(defaults, dict) or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise DataError(f"{path}: expected [defaults], a table, and every job as a [[job]]")
    return JobFile([JobRow(f"job {number}", job) for number, job in enumerate(jobs, 1)], defaults)
