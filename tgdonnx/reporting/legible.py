"""Text that strangers chose, as it may be shown: names in models, in archives and of files are hostile until proven otherwise.

What does not print is spelled out: escape sequences that a terminal obeys, line breaks that forge a message, marks that turn
the direction of writing, what has no width, what is no character at all. A thing stays one line, and is shortened in the
middle where nobody would read it to its end. Only what people look at is changed: JSON documents and files hold exact names.
"""

from __future__ import annotations

import re

from rich.text import Text

from tgdonnx.calls import in_words_of_reader

MOST_OF_A_NAME = 160
MOST_OF_A_MESSAGE = 2_000

# Letters and marks by their category, for `str.isprintable`, but without width or ink: fillers and variation selectors.
_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
# A name in quotation marks, as in messages; an apostrophe within a word opens none.
_QUOTED = re.compile(rf"(?<!\w)(['\"])(?:(?!\1).){{{MOST_OF_A_NAME + 1},}}?\1(?!\w)", re.DOTALL)
_WORD = re.compile(rf"\S{{{MOST_OF_A_NAME + 1},}}")


def legible(text: str) -> str:
    r"""Returns text on one line in which every character shows.

    >>> print(legible("a\x1b[31m\u202eb\n"))
    a\x1b[31m\u202eb\n
    """
    return text if text.isprintable() and _BLANK.isdisjoint(text) else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() and character not in _BLANK:
        return character
    code = ord(character)
    escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(character, escape)


def shortened(text: str, most: int = MOST_OF_A_NAME) -> str:
    """Returns text of at most ``most`` characters: of longer text its beginning and its end."""
    if len(text) <= most:
        return text
    begin = (most - 1) // 2
    return f"{text[:begin]}…{text[begin + 1 - most :]}"


def name(text: str) -> str:
    """Returns a name as it is shown in a sentence."""
    return shortened(legible(text))


def cell(text: str, style: str = "") -> Text:
    """Returns a name or a number for a table: what looks like markup in it is none."""
    return Text(message(text), style=style)


def sentence(text: str, style: str = "") -> Text:
    """Returns a message of ours for a table, in the words of who reads it."""
    return cell(in_words_of_reader(text), style)


def message(text: str) -> str:
    """Returns a whole message, with long names in it shortened, so that the remedy at its end is read."""
    if len(text) > MOST_OF_A_NAME:
        text = _QUOTED.sub(lambda found: shortened(found.group()), text)
        text = _WORD.sub(lambda found: shortened(found.group()), text)
    return shortened(legible(text), MOST_OF_A_MESSAGE)
