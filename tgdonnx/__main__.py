"""The command ``tgdonnx``, also as ``python -m tgdonnx``: what is there before anything else of the program is."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from typing import Any, NoReturn

from tgdonnx.starting import leaving_on_interrupt, postpone_imports


def main() -> NoReturn:
    """Runs the command line of this process."""
    if not sys.warnoptions:
        # Of libraries, about what users cannot change; --verbose shows them. Logs are not silent for want of a handler: some
        # libraries install one for all.
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
    _occupy()
    with leaving_on_interrupt():
        try:
            postpone_imports()
            command: Any = importlib.import_module("tgdonnx.cli").main
        except MemoryError:
            sys.stderr.write("Error: there is not enough memory to start; close other programs\n")
            sys.exit(2)
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


if __name__ == "__main__":
    main()
