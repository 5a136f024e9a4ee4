"""Signals that stop a run: the first is noted and asked for between batches, the second aborts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional


class Interrupted(Exception):  # noqa: N818  # not an error: the loop catches it, saves and ends
    """A signal has come.

    Attributes:
        signal: which.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number


@contextmanager
def interruptible(
    signals: Collection[signal.Signals], is_wanted: Callable[[], bool] = lambda: True
) -> Iterator[Callable[[], None]]:
    """Notes signals while the block runs; gives the function to call where the block may be left.

    That function raises `Interrupted` once a signal has come. At the next signal, without waiting for it, KeyboardInterrupt
    is raised wherever the program is. Signals can be noted in the main thread of a program only; for none, any will do.

    Args:
        signals: such as SIGINT and SIGTERM.
        is_wanted: asked each time; where it says no, that is as if SIGTERM had come.
    """
    came: list[signal.Signals] = []

    def note(number: int, _: Optional[FrameType]) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(signal.Signals(number))

    def check() -> None:
        if came:
            raise Interrupted(came[0])
        if not is_wanted():
            raise Interrupted(signal.SIGTERM)

    # A hangup that is ignored stays so: that is what nohup asks for.
    hangup = getattr(signal, "SIGHUP", None)
    noted = [number for number in signals if number != hangup or signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in noted}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
