"""Standard streams that take whatever is written: of any encoding, closed, or with nobody at the other end."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys

ERRORS = "tgdonnx.alternatives"

# One character for one, so that columns stay aligned.
_ALTERNATIVES = dict(zip("×…—–→“”·±≤≥│└├─━╸╺▁▂▃▄▅▆▇█", 'x~-->"".+<>|`|----..:-=+*#'))


def _alternative(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    return _ALTERNATIVES.get(character) or str(codecs.lookup_error("backslashreplace")(one)[0]), error.start + 1


codecs.register_error(ERRORS, _alternative)


def prepare() -> None:
    """Makes standard output and standard error take any text, whatever their encoding."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)


def abandon_stdout() -> None:
    """Gives up standard output after it failed, so that the interpreter does not try again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
