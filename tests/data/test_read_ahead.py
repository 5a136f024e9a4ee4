"""Reading ahead: the same items in the same order, a bounded number ahead, errors in their place, no thread left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tgdonnx.data.read_ahead import read_ahead


def threads() -> int:
    return sum(thread.name == "tgdonnx-data" for thread in threading.enumerate())


def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come true")


def test_items_come_in_order_and_all() -> None:
    assert list(read_ahead(iter(range(100)))) == list(range(100))
    assert list(read_ahead(iter(()))) == []
    assert not threads()


def test_the_next_items_are_made_while_one_is_used_and_no_more_than_asked_for() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    items = read_ahead(source(), depth=3)
    assert next(items) == 0
    until(lambda: len(made) >= 5)  # one used, three waiting, one in hand
    time.sleep(0.05)
    assert len(made) == 5
    items.close()  # type: ignore[attr-defined]
    assert not threads()


def test_what_the_source_raises_is_raised_after_what_came_before() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("gone")

    items = read_ahead(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(items)
    assert not threads()


def test_a_consumer_that_stops_ends_the_thread() -> None:
    for _ in read_ahead(iter(range(100))):
        break
    until(lambda: not threads())


def test_nothing_is_read_before_it_is_asked_for() -> None:
    read: list[int] = []
    items = read_ahead((read.append(number) or number for number in range(3)), depth=1)  # type: ignore[func-returns-value]
    assert not read
    assert not threads()
    assert list(items) == [0, 1, 2]
