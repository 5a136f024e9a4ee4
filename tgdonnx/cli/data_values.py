"""What options on data are given, read: sizes, numbers, and pairs of a name and what is for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.cli.paths import PATH
from tgdonnx.data import Scale


class ClassNames(click.ParamType[Any]):
    """Names with commas between, or the path of a file with them."""

    name = "names"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> Any:
        """Returns names, or the path."""
        text = str(value)
        if "," not in text or _is_there(text):
            return PATH.convert(text, param, ctx)
        return tuple(name.strip() for name in text.split(","))


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # many names are no name of a file
        return False


def pairs_of(form: str, pairs: Iterable[str]) -> dict[str, str]:
    """Reads ``KEY=VALUE``, each key once.

    Args:
        form: what is expected, for messages.
        pairs: what was given.

    Raises:
        UsageError: it is something else.
    """
    result: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not (key and separator and value) or key in result:
            raise click.UsageError(f"expected {form}, each once; got {pair!r}")
        result[key] = value
    return result


def divided(option: str, given: tuple[str, ...]) -> tuple[Optional[str], dict[str, str]]:
    """Divides what is for all inputs from what is for single ones.

    Raises:
        UsageError: there is more than one for all, or for one.
    """
    general = [text for text in given if "=" not in text]
    if len(general) > 1:
        raise click.UsageError(f"expected one {option} for all inputs; got {', '.join(general)}")
    return (general[0] if general else None), pairs_of(f"{option} INPUT=...", (text for text in given if "=" in text))


def sizes_of(option: str, text: Optional[str]) -> Optional[tuple[int, ...]]:
    """Reads sizes such as 64x48; None for nothing.

    Raises:
        UsageError: it is something else.
    """
    try:
        return None if text is None else tuple(int(size) for size in re.split("[x,]", text))
    except ValueError as error:
        raise click.UsageError(f"expected {option} such as 64x64, got {text!r}") from error


def numbers_of(option: str, text: Optional[str]) -> tuple[float, ...]:
    """Reads numbers with commas between; none for nothing.

    Raises:
        UsageError: it is something else.
    """
    try:
        return () if text is None else tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise click.UsageError(f"expected {option} of numbers such as 0.5,0.5,0.5, got {text!r}") from error


def kinds_of(text: Optional[str]) -> Iterable[Any]:
    """Reads names with commas between; none for nothing."""
    return () if text is None else (kind.strip() for kind in text.split(","))  # DataOptions checks them


def scale_of(text: str) -> Scale:
    """Reads a number, or what stands for numbers of the data."""
    try:
        return float(text)
    except ValueError:
        return text  # type: ignore[return-value]  # DataOptions checks it
