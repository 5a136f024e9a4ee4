"""Several things that are wrong with data, told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tgdonnx.errors import DataError


def raise_first(problems: list[DataError]) -> None:
    """Raises the first of some problems, with the others in its ``also``; nothing if there are none.

    The list is empty then: if a frame that the error goes through held it, both would live until cycles are collected, with all
    that is open in the frames.

    Raises:
        DataError: there is one.
    """
    if problems:
        first = problems[0]
        first.also = (*first.also, *problems[1:])
        problems.clear()
        try:
            raise first
        finally:
            del first


@contextmanager
def beside(problems: Sequence[DataError]) -> Iterator[None]:
    """Adds what is known to be wrong already to what is found to be wrong inside; see `DataError.also`."""
    try:
        yield
    except DataError as error:
        error.also = (*error.also, *problems)
        raise
