"""What commands print: results on stdout, as text or as one JSON document; everything else on stderr."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import click
import numpy as np
from rich.console import Console


def stdout() -> Console:
    """Returns the console for results."""
    return Console(highlight=False, soft_wrap=False)


def stderr() -> Console:
    """Returns the console for progress and remarks."""
    return Console(stderr=True, highlight=False)


def remark(text: str) -> None:
    """Says something that is worth knowing, on stderr."""
    click.echo(text, err=True)


def to_plain(value: Any) -> Any:
    """Turns a report into what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value


def print_json(report: Any) -> None:
    """Prints a report as one JSON document."""
    click.echo(json.dumps(to_plain(report), indent=1, allow_nan=False, ensure_ascii=False))
