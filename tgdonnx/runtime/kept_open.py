"""Models that stay open from one use to the next: to open one takes longer than many a small run on it.

A session holds nothing of a run: state goes in and comes out. So whoever does many runs of the same models, one after the other
or in several threads, lets them share sessions, a few at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any, Optional, TypeVar

T = TypeVar("T")


class OpenModels:
    """The last few models that were opened."""

    def __init__(self, most: int) -> None:
        """Makes room for ``most`` models, at least one."""
        self._most = max(1, most)
        self._models: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, open_it: Callable[[], T]) -> T:
        """Returns the model of a key, opened now if it is not open; the one that was not asked for longest is let go of."""
        with self._lock:
            if key in self._models:
                self._models.move_to_end(key)
                found: T = self._models[key]
                return found
            opened = self._models[key] = open_it()
            if len(self._models) > self._most:
                self._models.popitem(last=False)
            return opened


_KEPT: ContextVar[Optional[OpenModels]] = ContextVar("_KEPT", default=None)


@contextmanager
def keeping_open(models: OpenModels) -> Iterator[None]:
    """Has what is opened in the block, in this thread, taken from ``models`` and left there."""
    before = _KEPT.set(models)
    try:
        yield
    finally:
        _KEPT.reset(before)


def kept_open(key: Callable[[], Optional[Hashable]], open_it: Callable[[], T]) -> T:
    """Returns an open model.

    Args:
        key: tells it from all others, by what it is rather than by where it lies; None for one that is not kept. Not called
            where nothing is kept.
        open_it: opens it.
    """
    models = _KEPT.get()
    found = None if models is None else key()
    return open_it() if models is None or found is None else models.get(found, open_it)
