"""Many calls on the workers of a cluster, and what came of each as it is done.

No more calls are handed out than there are workers: the next one is taken from its iterator when one is done, so that a
million arguments take no more memory than a few, here and at the scheduler, and no worker waits behind a slow one.
"""

from __future__ import annotations

import importlib
import pickle
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Optional, TypeVar

from tgdonnx.cluster.calling import BEGAN, ENDED, NOTE, call
from tgdonnx.cluster.opening import Cluster
from tgdonnx.errors import ClusterError

Argument = TypeVar("Argument")
Result = TypeVar("Result")

COMES_BACK_WITHIN = 600.0  # seconds without any worker: of a machine that is busy, or a queue
STOPS_WITHIN = 10.0  # seconds in which calls that are not wanted any more may put in order what they have
_LOOK = 0.2  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What came of a call.

    Attributes:
        index: of its argument, counted from 0.
        value: what it returned; None if it failed.
        error: why it failed; None if it did not.
    """

    index: int
    value: Optional[Result]
    error: Optional[Exception]


def _nothing(_index: int, _value: object) -> None:
    """Nobody looks."""


def run_calls(
    cluster: Cluster,
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    *,
    on_note: Callable[[int, Any], None] = _nothing,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Done[Result]]:
    """Calls a function with each argument on the workers, and yields what came of it, in the order in which it is done.

    A call whose worker dies is made again on another one, so it should go on with, or read, what is done. What a call raises
    is an error of that call alone. When the iterator is left, calls that are not done are cancelled: those under way see it
    by `tgdonnx.cluster.is_cancelled`, and have a few seconds to end.

    Args:
        cluster: where.
        function: of a module that the workers can import.
        arguments: one for each call; taken as workers become free.
        on_note: called with the index of a call and what it told by `tgdonnx.cluster.note`.
        check: called a few times a second; what it raises ends the calls.

    Raises:
        ClusterError: the scheduler is gone, or all workers are for long.
    """
    calls = _Calls(cluster, function)
    pending = enumerate(arguments)
    try:
        while True:
            while len(calls.open) < cluster.size and (following := next(pending, None)) is not None:
                calls.submit(*following)
            if not calls.open:
                return
            check()
            found = calls.next_event()
            if isinstance(found, Done):
                yield found
            elif found is not None:
                on_note(*found)
    finally:
        calls.close()


class _Calls:
    """The calls that are handed out."""

    def __init__(self, cluster: Cluster, function: Callable[[Any], Any]) -> None:
        self._client, self._function, self._where = cluster.client, function, cluster.where
        self._topic = f"tgdonnx-{uuid.uuid4().hex}"
        self._events: queue.Queue[Any] = queue.Queue()
        self._running: set[int] = set()
        self._alone_since: Optional[float] = None
        self.open: dict[int, Any] = {}
        self._client.subscribe_topic(self._topic, self._heard)

    def _heard(self, event: tuple[float, Any]) -> None:
        kind, index, value = event[1]
        self._events.put((kind, index, value))

    def submit(self, index: int, argument: object) -> None:
        """Hands a call to the scheduler.

        Raises:
            ClusterError: its argument cannot be sent.
        """
        key = f"{self._topic}-{index}"
        try:
            future = self._client.submit(call, self._function, argument, self._topic, index, key=key, pure=False)
        except Exception as error:
            raise ClusterError(f"a call cannot be sent to a worker: {error}") from error
        self.open[index] = future
        future.add_done_callback(lambda _: self._events.put((None, index, None)))

    def next_event(self) -> Any:
        """Returns a call that is done, or a note as its index and value; None where nothing came for a moment.

        Raises:
            ClusterError: the scheduler is gone.
        """
        try:
            kind, index, value = self._events.get(timeout=_LOOK)
        except queue.Empty:
            self._require_workers()
            return None
        if kind is None:
            return self._done(index)
        self._heed(kind, index)
        return (index, pickle.loads(value)) if kind == NOTE else None  # noqa: S301  # from a worker of ours

    def _heed(self, kind: Any, index: int) -> None:
        if kind == BEGAN:
            self._running.add(index)
        elif kind == ENDED:
            self._running.discard(index)

    def _require_workers(self) -> None:
        if self._client.status != "running":
            raise ClusterError(f"the scheduler of {self._where} is gone")
        now = time.monotonic()
        if self._client.scheduler_info(n_workers=1)["workers"]:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > COMES_BACK_WITHIN:
            raise ClusterError(f"for {COMES_BACK_WITHIN:g} s there is none of {self._where}")

    def _done(self, index: int) -> Optional[Done[Any]]:
        future = self.open.pop(index)
        self._running.discard(index)
        if future.status == "finished":
            return Done(index, future.result(), None)
        if future.status == "error":
            return Done(index, None, _reason(future.exception()))
        self.open[index] = future  # it was lost, or cancelled from outside
        self._require_workers()
        raise ClusterError(f"call {index} was cancelled at the scheduler of {self._where}")

    def close(self) -> None:
        """Cancels what is handed out, and waits a moment for those under way to end."""
        with suppress(Exception):  # of a scheduler that is gone
            self._client.cancel(list(self.open.values()))
            deadline = time.monotonic() + STOPS_WITHIN
            while self.open and self._running and time.monotonic() < deadline:
                with suppress(queue.Empty):
                    kind, index, _ = self._events.get(timeout=_LOOK)
                    self._heed(kind, index)
            self._client.unsubscribe_topic(self._topic)
        self.open.clear()


def _reason(error: BaseException) -> Exception:
    """Returns why a call failed, in our words where its worker died."""
    if isinstance(error, importlib.import_module("distributed").KilledWorker):
        return ClusterError(
            f"every worker that ran it died, {error.allowed_failures + 1} in turn",
            remedy="look for a lack of memory",
        )
    return error if isinstance(error, Exception) else ClusterError(f"{type(error).__name__}: {error}")
