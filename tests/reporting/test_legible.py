from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgdonnx.reporting.legible import MOST_OF_A_MESSAGE, MOST_OF_A_NAME, cell, legible, message, name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("conv1.weight", "conv1.weight"),
        ("Gewicht für Bild 1", "Gewicht für Bild 1"),
        ("权重:0", "权重:0"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f\x08", r"\x7f\x08"),
        ("a\nError: b\r\t", r"a\nError: b\r\t"),
        ("\u202egnp.exe\u2069", r"\u202egnp.exe\u2069"),
        ("zero\u200dwidth\ufeff\u3164\ufe0f", r"zero\u200dwidth\ufeff\u3164\ufe0f"),
        ("\u2028\u00a0", r"\u2028\xa0"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("\x00", r"\x00"),
    ],
)
def test_what_does_not_show_is_spelled_out(text: str, shown: str) -> None:
    assert legible(text) == shown


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = legible(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert shown.isprintable()


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    shown = name("begin" + "n" * 100_000 + "end")
    assert len(shown) == MOST_OF_A_NAME
    assert shown.startswith("beginnn")
    assert shown.endswith("nnend")
    assert "…" in shown


def test_long_names_in_a_message_are_shortened_so_that_its_end_is_read() -> None:
    told = message(
        f"node {'n' * 100_000 + ' x'!r} of the vendor's file reads {'m' * 100_000}, which nothing makes; export again"
    )
    assert len(told) < 2 * MOST_OF_A_NAME + 200
    assert told.startswith("node 'nnn")
    assert told.endswith("m, which nothing makes; export again")


def test_an_apostrophe_is_no_quotation_mark() -> None:
    prose = "the vendor's file " + "and more words " * 15 + "are the model's"
    assert message(prose) == prose


def test_a_message_of_short_words_is_bounded_too() -> None:
    told = message("begin " + "ab " * 100_000 + "end")
    assert len(told) == MOST_OF_A_MESSAGE
    assert told.startswith("begin")
    assert told.endswith("end")


@pytest.mark.parametrize("text", ["'" * 200_000, "' " * 100_000, "'a" * 100_000, '"' * 100_000 + "'" * 100_000])
def test_a_message_made_to_be_slow_is_not(text: str) -> None:
    began = time.monotonic()
    message(text)
    assert time.monotonic() - began < 5


def test_markup_in_a_cell_is_text() -> None:
    assert cell("[/bold][red]x").plain == "[/bold][red]x"
    assert not cell("[/bold][red]x").spans
