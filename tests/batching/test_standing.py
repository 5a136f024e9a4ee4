"""Which jobs lie far from the others, and how they are shown."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Optional

import pytest
from rich.console import Console

from tgdonnx.batching import BatchReport, JobResult
from tgdonnx.batching.listing import print_batch
from tgdonnx.batching.page import page_of
from tgdonnx.batching.standing import outliers_first, standings
from tgdonnx.batching.summary import table_of


def done(name: str, psnr: Optional[float], before: float = 20.0) -> JobResult:
    return JobResult(name, "done", metrics={"validation psnr": psnr}, before={"validation psnr": before})


USUAL = [done(f"p{number}", 30.0 + 0.1 * number) for number in range(8)]


def test_a_job_far_from_the_median_is_called_so_with_how_far() -> None:
    # The median is 30.3, and that of the distances from it 0.2.
    known = standings([*USUAL, done("low", 25.0)])
    assert known["low"].distance == pytest.approx((30.3 - 25.0) / (1.4826 * 0.2))
    assert known["low"].why == "validation psnr is below the median, by 17.9 robust standard deviations"
    assert all(not known[each.name].why for each in USUAL)


def test_a_job_that_gained_much_less_is_far_though_its_value_is_not() -> None:
    known = standings([*USUAL, done("start", 30.4, before=30.4)])
    assert known["start"].why.startswith("change of validation psnr is below the median")


def test_of_a_few_jobs_and_of_equal_ones_none_is_far() -> None:
    assert {each.why for each in standings([*USUAL[:3], done("low", 5.0)]).values()} == {""}
    assert {each.why for each in standings([done(f"p{n}", 30.0) for n in range(6)]).values()} == {""}


def test_where_more_than_half_are_equal_any_other_is_far() -> None:
    known = standings([*(done(f"p{n}", 30.0) for n in range(6)), done("other", 31.0)])
    assert known["other"].why == "validation psnr is above the median"


def test_values_that_are_infinite_or_missing_are_left_out() -> None:
    known = standings([*USUAL, done("perfect", None), JobResult("failed", "failed", "why")])
    assert known["perfect"].why == ""
    assert "failed" not in known


def test_failures_come_first_then_outliers_then_the_rest_in_order() -> None:
    results = [
        *USUAL,
        done("low", 25.0),
        done("lower", 20.5),
        JobResult("open", "open"),
        JobResult("bad", "failed", "x"),
    ]
    assert [each.name for each in outliers_first(results)][:3] == ["bad", "lower", "low"]
    assert [each.name for each in outliers_first(results)][3:] == [*(each.name for each in USUAL), "open"]


def test_the_page_shows_names_as_text_and_says_what_is_left(tmp_path: Path) -> None:
    named = done("<b>bold</b> & co", 25.0)
    results = [*USUAL, named, JobResult("bad", "failed", "no <i>data</i>"), JobResult("late", "open")]
    page = page_of(results, tmp_path).decode()
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in page
    assert "no &lt;i&gt;data&lt;/i&gt;" in page
    assert "9 of 11 jobs are done, 1 failed, 1 is left" in " ".join(page.split())
    assert 'href="%3Cb%3Ebold' in page
    assert page.index("bold") < page.index(">p0<")
    assert "<script" not in page


def test_values_that_span_much_are_drawn_on_a_logarithmic_scale(tmp_path: Path) -> None:
    narrow, wide = page_of(USUAL, tmp_path).decode(), page_of([*USUAL, done("big", 3000.0)], tmp_path).decode()
    assert "logarithmic" not in narrow
    assert "The scale is logarithmic." in wide


def test_the_table_has_the_jobs_in_their_order_with_text_quoted(tmp_path: Path) -> None:
    results = [done("a", 30.25), JobResult("b", "failed", 'x, "y"\nz')]
    rows = list(csv.DictReader(io.StringIO(table_of(results, tmp_path).decode())))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["validation psnr"] == "30.25"
    assert rows[1]["error"] == 'x, "y"\nz'


def test_a_long_list_is_cut_on_the_terminal_and_the_medians_stay() -> None:
    results = tuple(done(f"p{number}", 30.0 + number / 100) for number in range(100))
    console = Console(width=100, record=True, file=io.StringIO())
    print_batch(BatchReport(results, "out/summary.csv", None, {}), console)
    said = console.export_text()
    assert "p29" in said
    assert "p31" not in said
    assert "median of 100" in said
    assert "70 more jobs are in out/summary.csv" in said
    assert "100 jobs: 100 done" in said
