"""Arrays of files that can only be read whole, kept for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Callable

from tgdonnx.data.lazy_arrays import Array


class FileCache:
    """Keeps arrays of files that can only be read whole, the latest used ones up to a limit.

    Attributes:
        limit: bytes that are kept. The array that was asked for last is kept whatever its size.
    """

    def __init__(self, limit: int = 2**29) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Array] = OrderedDict()
        self._lock = threading.Lock()  # training reads ahead in a thread while the loop may look at samples itself

    def get(self, key: Hashable, load: Callable[[], Array]) -> Array:
        """Returns what is kept for ``key``, or loads it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        array = load()
        with self._lock:
            self._kept[key] = array
            total = sum(kept.nbytes for kept in self._kept.values())
            while total > self.limit and len(self._kept) > 1:
                total -= self._kept.popitem(last=False)[1].nbytes
        return array
