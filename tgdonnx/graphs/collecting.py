"""Making graphs of many nodes without Python's collector of cycles going through them again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python's own is 700 to 2,000: a graph of 10,000 nodes has a million objects, of which hardly any is let go of on the way, and
# each look at the oldest goes through all of them.
_OBJECTS = 1_000_000


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Lets the collector look only when a million objects more are alive; whoever has turned it off keeps it off."""
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(max(before[0], _OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
