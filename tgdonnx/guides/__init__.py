"""The guides: Markdown that ships with the tool, to be read offline by ``tgdonnx guide``.

A guide begins with ``# Title``, and the paragraph after it says in a sentence what it is about.
"""

from __future__ import annotations

import re
from pathlib import Path

GUIDES = (
    "data",
    "selections",
    "runs",
    "comparing",
    "cluster",
    "batch",
    "gate",
    "applying",
    "federated",
    "proof",
    "commands",
    "python",
    "formats",
    "step",
    "operators",
    "numbers",
    "architecture",
    "contributing",
    "glossary",
)
"""Their names, in the order in which they are listed."""

_MARK = re.compile(r"^<!-- .* -->\n", re.MULTILINE)


def text_of(name: str) -> str:
    """Returns a guide as Markdown, without the marks that are for tools.

    Args:
        name: one of `GUIDES`.
    """
    return _MARK.sub("", (Path(__file__).parent / f"{name}.md").read_text("utf-8"))


def summary_of(name: str) -> str:
    """Returns what a guide is about, as one line."""
    return " ".join(text_of(name).split("\n\n")[1].split())
