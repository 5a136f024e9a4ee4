"""The command ``tgdonnx``, also as ``python -m tgdonnx``: what is there before anything else of the program is."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import warnings
from typing import Any, NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Runs the command line of this process."""
    started = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else the parent wants it ignored
    if started:
        signal.signal(signal.SIGINT, _leave)
    if not sys.warnoptions:
        # Of libraries, about what users cannot change; --verbose shows them. Logs are not silent for want of a handler: some
        # libraries install one for all.
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
    _occupy()
    try:
        command: Any = importlib.import_module("tgdonnx.cli").main
    except MemoryError:
        sys.stderr.write("Error: there is not enough memory to start; close other programs\n")
        sys.exit(2)
    if started:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command(prog_name="tgdonnx")
    raise AssertionError("unreachable: the command exits")


def _occupy() -> None:
    """Opens what was closed of the three standard streams; what is printed there is lost, as whoever closed it wanted.

    A file of ours would get such a number otherwise, and libraries in C, which print to the numbers 1 and 2, would write
    into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _leave(_signal: int, _frame: object) -> NoReturn:
    # Not by an exception: raised in the middle of an import it would be taken for the failure of that import.
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
