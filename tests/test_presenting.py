"""Results at a prompt and in a notebook: short, nothing of a stranger as markup, all there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from html.parser import HTMLParser
from typing import Any, Optional

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.tuning import PHI, data_for
from tgdonnx.presenting import Presented, short

RESULTS = [
    value
    for name in tgdonnx.__all__
    if inspect.isclass(value := getattr(tgdonnx, name)) and is_dataclass(value) and name.endswith(("Report", "Curve"))
]


@dataclass(frozen=True)
class Part:
    name: str
    values: Any = field(repr=False, default=())
    share: float = 0.5
    note: str = ""


@dataclass(frozen=True, repr=False)
class Whole(Presented):
    title: str
    numbers: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ()
    known: Any = None
    best: Optional[Part] = None


class Reader(HTMLParser):
    """The text of a page, and which tags were opened and not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self.tags.add(tag)
        if tag not in ("br", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "polyline":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(result: Presented) -> Reader:
    reader = Reader(result._repr_html_())
    assert reader.open == []
    return reader


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_every_report_shows_itself_in_short(kind: type) -> None:
    assert issubclass(kind, Presented)
    assert kind.__repr__ is Presented.__repr__
    assert any(name == "Attributes:" for name in map(str.strip, (kind.__doc__ or "").splitlines())) or fields(kind)


def test_what_fits_is_a_line_and_what_does_not_a_line_per_field() -> None:
    assert repr(Whole("a")) == "Whole(title='a', numbers=(), parts=(), known=None, best=None)"
    long = Whole(
        "a" * 90, tuple(range(1000)), (Part("p"),) * 30, {"x": np.zeros((3, 4), np.float32)}, Part("q", share=1)
    )
    assert repr(long).splitlines() == [
        "Whole(",
        f"  title='{'a' * 57}...',",
        "  numbers=(0, ..., 999; 1000 values),",
        "  parts=<30 Part>,",
        "  known={'x': <float32 [3, 4]>},",
        "  best=Part(name='q', share=1),",
        ")",
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 / 3, "0.333333"),
        (np.float32(0.1), "0.1"),
        (np.int64(3), "3"),
        ((), "()"),
        ((1.5,), "(1.5,)"),
        (("a",) * 7, "<7 str>"),
        ((1, "a", None) * 3, "<9 values>"),
        ({}, "{}"),
        (dict.fromkeys("abcdef", "y" * 30), f"{{'a': '{'y' * 30}', 'b': '{'y' * 30}', ...}}"),
        (Part("n", note="by default nothing"), "Part(name='n', note='by default nothing')"),
        (object, "<class 'object'>"),
        (slice(0, 10**70), "<slice>"),
        ("\x1b[31mred", r"'\x1b[31mred'"),
    ],
)
def test_a_value_is_short_and_says_its_size(value: object, expected: str) -> None:
    assert short(value) == expected


def test_in_a_notebook_nothing_of_a_stranger_is_markup() -> None:
    bad = "<script>alert(1)</script>\u202e&\x00"
    page = page_of(Whole(bad, parts=(Part(bad),), known={bad: bad, "many": (bad, bad)}, best=Part(bad)))
    assert page.tags <= {"b", "table", "tr", "th", "td", "details", "summary", "br"}
    said = "".join(page.text)
    assert r"<script>alert(1)</script>\u202e&\x00" in said
    assert "\u202e" not in said


def test_numbers_are_drawn_and_long_tables_end() -> None:
    page = page_of(Whole("a", tuple(float(i % 7) for i in range(1000)), tuple(Part(str(i)) for i in range(80))))
    assert {"svg", "polyline", "details"} <= page.tags
    said = " ".join(page.text)
    assert "(0, ..., 5; 1000 values)" in said
    assert "and 30 more" in said
    assert "share" in said
    assert "note" not in said, "the column is empty"
    assert "polyline" not in page_of(Whole("a", (1.0, float("nan")) * 8)).tags


def lines_of(report: object) -> Iterator[int]:
    return (len(line) for line in repr(report).splitlines())


def test_reports_of_a_model_are_a_screen_and_their_tables_are_well_formed() -> None:
    model = models.chain(1)
    data = data_for(model)
    for report in (
        tgdonnx.inspect(model),
        tgdonnx.check(model),
        tgdonnx.score(model),
        tgdonnx.trace(model),
        tgdonnx.examine(model, data),
        tgdonnx.sweep(model, data, phis=(PHI,)),
    ):
        assert max(lines_of(report)) <= 130
        assert len(repr(report).splitlines()) <= 20
        assert page_of(report).tags >= {"table", "td"}
