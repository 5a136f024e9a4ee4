"""A process that makes batches, so that the next ones are there when the loop asks for them: this side of it.

A thread cannot do it: a training step of onnxruntime-training 1.19 keeps Python's lock from its begin to its end. The
process, which runs `tgdonnx.data.serving`, gets told once what to open, then, stream after stream, which batches to make. It
answers with bytes on a pipe, and makes two batches ahead while the pipe is full. When either side ends, the other finds its
pipe closed.

Each answer is a length (8 bytes, little-endian), a pickle of that length, and the bytes of the arrays that the pickle
announces as shapes and dtypes; instead of those it may hold an error.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.recipe import Recipe, Stream
from tgdonnx.errors import DataError

if sys.platform == "linux":
    import fcntl

PIPE_BYTES = 2**20

# Signals may reach this process too, already while it imports, but it is the loop that ends the run; and what libraries warn of
# the process that started this one has seen, or hidden.
_PROGRAM = """
import signal, sys, warnings
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
warnings.simplefilter("ignore")
import pickle
sys.path[:] = pickle.load(sys.stdin.buffer)
from tgdonnx.data.serving import serve
serve()
"""


class Worker:
    """A process that makes batches.

    Attributes:
        pid: its number.
        close: ends it.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Starts it."""
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests, self._answers = process.stdin, process.stdout
        _widen(self._answers)
        self.pid = process.pid
        self.close = weakref.finalize(self, _end, process)
        self._send(sys.path)
        self._send(recipe)
        self._opened = threading.Event()
        # Not a method: the thread must not keep this object, whose end is the process's end.
        threading.Thread(target=_await_opening, args=(self._answers, self._opened), daemon=True).start()

    @property
    def is_ready(self) -> bool:
        """Whether the process has started and opened the data, or failed to; it takes a second or two."""
        return self._opened.is_set()

    def batches(self, stream: Stream, count: int) -> Iterator[list[Array]]:
        """Yields the batches of a stream. A consumer that stops before the last one has to close the worker.

        Args:
            stream: which.
            count: how many they are.

        Raises:
            DataError: as `Dataset.batches`; the process has died.
        """
        self._send(stream)
        for _ in range(count):
            announced: Any = _receive(self._answers)
            if isinstance(announced, DataError):
                raise announced
            batch = [np.empty(shape, dtype) for shape, dtype in announced]
            for array in batch:
                _fill(self._answers, array)
            yield batch

    def _send(self, what: object) -> None:
        try:
            pickle.dump(what, self._requests)
            self._requests.flush()
        except OSError as error:
            raise DataError(
                "the process that reads the data has died; see above, or look for a lack of memory"
            ) from error


def _await_opening(answers: IO[bytes], opened: threading.Event) -> None:
    with contextlib.suppress(DataError, OSError, ValueError):  # whoever asks for batches will be told
        _receive(answers)
    opened.set()


def _receive(answers: IO[bytes]) -> object:
    length = np.zeros(8, np.uint8)
    _fill(answers, length)
    content = np.zeros(int.from_bytes(length.tobytes(), "little"), np.uint8)
    _fill(answers, content)
    return pickle.loads(content.tobytes())  # noqa: S301  # from the process that this one started


def _fill(answers: IO[bytes], array: Array) -> None:
    if array.size and answers.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:  # type: ignore[attr-defined]
        raise DataError("the process that reads the data has died; see above, or look for a lack of memory")


def _widen(pipe: IO[bytes]) -> None:
    """Makes a pipe hold a batch, where the system can: then the loop does not wait for the process to get a core."""
    if sys.platform == "linux" and sys.version_info >= (3, 10):
        with contextlib.suppress(OSError):  # there is a limit per user
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue  # what was not sent any more
    process.wait()
