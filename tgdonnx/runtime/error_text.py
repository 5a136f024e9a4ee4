"""What ONNX Runtime says went wrong, as the end of a sentence of ours.

It raises types of its own that share no base but Exception, with a status, file names and line numbers of its source around
the reason. Nothing is decided by these texts; they are only shown.
"""

from __future__ import annotations

import re

_STATUS = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ")
_RUNNING = re.compile(
    r"^Non-zero status code returned while running (?P<op>\S+) node\. Name:'(?P<name>.*?)' Status Message: "
)
_SOURCE = re.compile(r"(?:/\S+/)?\w+\.(?:cc|h):\d+ (?:(?:\S+ )?\S*\w::\S+\(.*?\)(?: const)? )?")
_MOST = 400  # characters: some of its reasons list a whole graph


def reason_of(error: BaseException) -> str:
    """Returns the reason that an exception of the runtime gives, with the node where that is said; one line, never empty."""
    lines = str(error).splitlines()
    text = _STATUS.sub("", lines[0].strip() if lines else "")
    running = _RUNNING.match(text)
    if running:
        text = _SOURCE.sub("", text[running.end() :])
        text = (
            f"{running['op']} node {running['name']!r}: {text}" if running["name"] else f"{running['op']} node: {text}"
        )
    else:
        text = _SOURCE.sub("", text.rpartition("Status Message: ")[2])
    text = text.strip() or type(error).__name__
    return text if len(text) <= _MOST else f"{text[:_MOST]} ..."
