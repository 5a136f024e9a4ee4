"""Making items ahead in a thread, while the consumer is busy outside of Python."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar, Union

Item = TypeVar("Item")

_END = object()


@dataclass(frozen=True)
class _Failure:
    error: BaseException


def read_ahead(items: Iterator[Item], depth: int = 2) -> Iterator[Item]:
    """Yields what an iterator yields, up to ``depth`` items ahead of the consumer, in the same order.

    What the iterator raises is raised here, after the items before it. The thread ends when the consumer stops.
    """
    made: queue.Queue[Union[Item, _Failure, object]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Union[Item, _Failure, object]) -> bool:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:  # it belongs to the consumer
            put(_Failure(error))

    thread = threading.Thread(target=produce, name="tgdonnx-data", daemon=True)
    thread.start()
    try:
        while True:
            item = made.get()
            if item is _END:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
