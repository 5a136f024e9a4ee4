"""The one door to files that somebody else names: nothing but regular files is opened.

To open a pipe waits for a writer, to read ``/dev/zero`` never ends, and a socket or a directory has no content. All of them
can lie where a model, data or options are expected, also behind a link.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# A pipe that takes the place of a file between the two looks must not make us wait.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegularError(OSError):
    """What is there is no regular file; ``strerror`` says what it is."""


class TooLargeError(OSError):
    """A file has more bytes than its kind may have; ``strerror`` says the bound."""


def require_regular(path: Path) -> os.stat_result:
    """Checks that ``path``, links followed, is a regular file, and returns what the file system says of it.

    Raises:
        NotRegularError: it is something else.
        OSError: it is not there, or may not be looked at.
    """
    found = path.stat()
    _require(found, path)
    return found


def open_regular(path: Path) -> IO[bytes]:
    """Opens a regular file for reading, unbuffered waits excluded.

    Raises:
        NotRegularError: it is none.
        OSError: it cannot be opened.
    """
    require_regular(path)
    descriptor = os.open(path, _FLAGS)
    try:
        _require(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """Returns the content of a regular file.

    Args:
        path: the file.
        most: how many bytes it may have.

    Raises:
        NotRegularError: it is no regular file.
        TooLargeError: it has more bytes.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise TooLargeError(errno.EFBIG, f"it has {size:,} bytes; expected at most {most:,}", str(path))
        return file.read(most + 1)[:most]


def _require(found: os.stat_result, path: Path) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    if stat.S_ISDIR(found.st_mode):
        raise NotRegularError(errno.EISDIR, "it is a directory; expected a file", str(path))
    kind = next((name for test, name in _KINDS if test(found.st_mode)), "no regular file")
    raise NotRegularError(errno.EINVAL, f"it is {kind}; expected a file", str(path))
