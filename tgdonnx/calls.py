"""How messages name what to call, and with what: as Python does, in backticks.

A field is named as it is (`output`), with values as in a call (`batch=4, accumulate=2`), a function by its whole name
(`tgdonnx.build`). That is how reports and files hold them. Whatever shows a message to people (a line, a table, a page) shows
it as `in_words_of_reader` gives it: while a command of ours runs, in the words of the command line, see `tgdonnx.cli.spelling`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, object] = MappingProxyType({})
_WORDS: ContextVar[Callable[[str], str]] = ContextVar("_WORDS", default=str)


def call(function: str, *arguments: object, options: Mapping[str, object] = _NOTHING) -> str:
    """Returns a call of a function of tgdonnx.

    >>> call("export", "art", options={"output": "tuned.onnx", "overwrite": True})
    "tgdonnx.export('art', output='tuned.onnx', overwrite=True)"

    Args:
        function: its name.
        arguments: those that go without a name; paths as text.
        options: the others, by name.
    """
    words = [*map(_written, arguments), *(f"{name}={_written(value)}" for name, value in options.items())]
    return f"tgdonnx.{function}({', '.join(words)})"


def in_words_of_reader(message: str) -> str:
    """Returns a message as it is shown: as it is, or in the words of the command line while a command of ours runs."""
    return _WORDS.get()(message)


@contextmanager
def words_of_reader(words: Callable[[str], str]) -> Iterator[None]:
    """Has messages shown in other words while the block runs.

    Args:
        words: gives a message in these words.
    """
    before = _WORDS.set(words)
    try:
        yield
    finally:
        _WORDS.reset(before)


def _written(value: object) -> str:
    return repr(os.fspath(value) if isinstance(value, os.PathLike) else value)
