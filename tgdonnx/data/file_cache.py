"""What was read of files, kept for a while, so that no small file is opened twice before training."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Callable

from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError
from tgdonnx.files.regular import open_regular

KEPT_ARRAYS, KEPT_CONTENTS = 2**29, 2**27


def opened(path: Path) -> IO[bytes]:
    """Opens a file.

    Raises:
        DataError: it cannot be opened.
    """
    with _told(path):
        return open_regular(path)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


class FileCache:
    """Keeps what was read of the files of a source, up to limits.

    Of a file that can only be read whole, the content is kept from when its header is looked at until its values are, and from
    then on its values, the latest used ones.

    Attributes:
        limit: bytes of values that are kept.
    """

    def __init__(self, limit: float = KEPT_ARRAYS) -> None:
        """Begins with nothing.

        Args:
            limit: bytes of values that are kept. The array that was asked for last is kept whatever its size.
        """
        self.limit = limit
        self._free = KEPT_CONTENTS
        self._arrays: OrderedDict[Hashable, Array] = OrderedDict()
        self._bytes = 0
        self._contents: dict[Path, bytes] = {}
        self._hashes: dict[Path, str] = {}
        self._lock = threading.Lock()  # training reads ahead in a thread while the loop may look at samples itself

    @property
    def hashes(self) -> Mapping[Path, str]:
        """The SHA-256 of files whose values were read."""
        return self._hashes

    def get(self, key: Hashable, load: Callable[[], Array]) -> Array:
        """Returns what is kept for ``key``, or loads it."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = load()
        self.keep(key, array)
        return array

    def get_instead(self, of: Hashable, key: Hashable, make: Callable[[], Array]) -> Array:
        """Returns what is kept for ``key``, or makes it from what is kept for ``of``, which is let go then."""

        def load() -> Array:
            made = make()
            with self._lock:
                before = self._arrays.pop(of, None)
                self._bytes -= before.nbytes if before is not None else 0
            return made

        return self.get(key, load)

    def keep(self, key: Hashable, array: Array) -> None:
        """Keeps an array for ``key``."""
        with self._lock:
            self._bytes += array.nbytes
            before = self._arrays.pop(key, None)
            if before is not None:
                self._bytes -= before.nbytes
            self._arrays[key] = array
            while self._bytes > self.limit and len(self._arrays) > 1:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes

    def open(self, path: Path) -> IO[bytes]:
        """Opens a file to look at its header; its content is kept for `take`, if there is room.

        Raises:
            DataError: it cannot be read.
        """
        file = opened(path)
        size = os.fstat(file.fileno()).st_size
        with self._lock:
            if path in self._contents or size > self._free:
                return file
            self._free -= size
        with _told(path), file:
            content = file.read()
        with self._lock:
            self._free += size - len(content)
            self._contents[path] = content
        return io.BytesIO(content)

    def take(self, path: Path) -> IO[bytes]:
        """Opens a file to read its values; what was kept of its content is let go, and its hash is known if that is quick.

        Raises:
            DataError: it cannot be read.
        """
        with self._lock:
            content = self._contents.pop(path, None)
            self._free += len(content) if content is not None else 0
        if content is None:
            file = opened(path)
            if os.fstat(file.fileno()).st_size > KEPT_CONTENTS:
                return file
            with _told(path), file:
                content = file.read()
        if path not in self._hashes:
            self._hashes[path] = hashlib.sha256(content).hexdigest()
        return io.BytesIO(content)
