"""What commands print: results on stdout, as text or as one JSON document; everything else on stderr.

This is the only door to the terminal. What Python names is said in the words of the command line (`tgdonnx.cli.spelling`);
other names are made legible (`tgdonnx.reporting.legible`), and what looks like rich's markup in them is none; a stream that
cannot be written is an `OutputError`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Optional, Union

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from tgdonnx.cli.spelling import spelled, spelled_report
from tgdonnx.errors import OutputError
from tgdonnx.reporting.legible import cell, legible, message

# What JSON allows in strings, but a terminal obeys or does not show: all but printable characters.
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\n]")


class _Console(Console):
    """A console that lets no control character of a text through, whoever made the text."""

    def render(self, renderable: RenderableType, options: Optional[ConsoleOptions] = None) -> Iterable[Segment]:
        """Yields the parts of what is shown."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                text = "\n".join(map(legible, segment.text.split("\n")))
                yield Segment(text, segment.style, segment.control)

    def on_broken_pipe(self) -> None:
        """Leaves it to the outermost layer, which knows the exit status; rich would exit with 1."""
        raise BrokenPipeError


def stdout() -> Console:
    """Returns the console for results."""
    return _Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def stderr() -> Console:
    """Returns the console for progress and remarks."""
    return _Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(*parts: Union[str, Text]) -> None:
    """Prints a line of the result on stdout; a `Text` among its parts keeps its style."""
    with _reported():
        stdout().print(_line(parts), soft_wrap=True)


def remark(*parts: Union[str, Text]) -> None:
    """Says something that is worth knowing, on stderr."""
    with _reported():
        stderr().print(_line(parts), soft_wrap=True)


def styled(text: str, style: str) -> Text:
    """Returns a part of a line with a style, such as ``bold green``."""
    return cell(text, style)


def _line(parts: Iterable[Union[str, Text]]) -> Text:
    return Text.assemble(*(Text(message(spelled(part))) if isinstance(part, str) else part for part in parts))


@contextmanager
def printing() -> Iterator[Console]:
    """Gives the console for results, for a table.

    Raises:
        OutputError: it cannot be written.
    """
    with _reported():
        yield stdout()


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read it has seen enough
    except OSError as error:
        raise OutputError(
            f"the result cannot be printed: {error.strerror or error}; give stdout a place to go"
        ) from error


def to_plain(value: Any) -> Any:
    """Turns a report into what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    # Arrays and numbers of numpy, which commands that print none do not import.
    return value.tolist() if hasattr(value, "tolist") else value


def to_json(value: Any) -> str:
    r"""Returns a JSON document with exact strings, of which a terminal obeys nothing.

    >>> print(to_json({"name": "\x9b31mé"}))
    {
     "name": "\u009b31mé"
    }
    """
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    return _UNPRINTABLE.sub(
        lambda found: found.group() if legible(found.group()) == found.group() else _escaped(found), text
    )


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found.group())[1:-1]


def print_json(report: Any) -> None:
    """Prints a report as one JSON document; in ASCII where the stream's encoding lacks its characters."""
    plain = spelled_report(to_plain(report))
    text = to_json(plain)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(plain, indent=1, allow_nan=False)
    with _reported():
        click.echo(text)
