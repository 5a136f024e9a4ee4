"""The plot and the table of a comparison, from numbers made by hand."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tgdonnx.comparing import CompareReport, Entry, Point
from tgdonnx.errors import DataError
from tgdonnx.reporting.comparison import print_compare
from tgdonnx.reporting.pareto import plot_compare

START = Point(0, 0, 4.0, 20.0, 40.0, 0.0)
MIDDLE, LAST = Point(1, 5, 2.0, 24.125, 38.5, 1.5), Point(2, 10, 3.0, 22.0, None, None)
TUNED = Entry("phi:0.3+agree", {}, 0.25, 1234, 10, 3.0, (START, MIDDLE, LAST), MIDDLE, LAST, "c/phi-0.3+agree")
OTHER = Entry("all", {}, 1.0, 9000, 10, 4.0, (START, LAST), START, LAST, "c/all")
VENDOR = Entry("none", {}, 0.0, 0, 0, 0.0, (START,), START, START)
REPORT = CompareReport(
    "somewhere/vendor.onnx",
    "c",
    10,
    "psnr",
    "psnr",
    True,
    2.0,
    (VENDOR, TUNED, OTHER),
    "phi:0.3+agree",
    "lowest of all",
    "tgdonnx.export('c/phi-0.3+agree/artifacts', output='tuned.onnx')",
    ("a note",),
)


def words(report: CompareReport, path: Path) -> list[str]:
    plot_compare(report, path, overwrite=True)
    return re.findall(r"<!-- (.*?) -->", path.read_text("utf-8"))


def test_the_plot_names_every_selection_the_axes_and_the_limit(tmp_path: Path) -> None:
    found = words(REPORT, tmp_path / "pareto.svg")
    for text in (
        "phi:0.3+agree (recommended)",
        "all",
        "vendor's model",
        "limit (38)",
        "new task, validation: PSNR (dB)",
        "vendor's own task: PSNR (dB)",
        "Selections for vendor.onnx, 10 steps each",
        "large: best within the limit; outlined: last",
    ):
        assert text in found, found


def test_without_a_limit_or_targets_the_plot_says_so(tmp_path: Path) -> None:
    found = words(replace(REPORT, retain_limit=None, old="rmse", labelled=False), tmp_path / "pareto.svg")
    assert "agreement with the vendor's output: RMSE" in found
    assert "large: best; outlined: last" in found
    assert not [text for text in found if text.startswith("limit")]


def test_without_the_old_task_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`retain`"):
        plot_compare(replace(REPORT, old=None), tmp_path / "pareto.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_has_all_numbers_and_fits(width: int) -> None:
    text = io.StringIO()
    print_compare(REPORT, Console(file=text, width=width, highlight=False))
    *lines, call = text.getvalue().splitlines()  # of which the last is to be copied, so that it is not broken
    assert max(map(len, lines)) <= width
    assert call == f"write its model: `{REPORT.call}`"
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    wide = ["25.0%"] if width == 120 else []
    assert rows["phi:0.3+agree"][1:] == [*wide, "1.23k", "10", "3", "s", "5", "24.12", "22", "38.5", "inf"]
    assert rows["none"][-1] == "40"
    whole = " ".join(text.getvalue().split())
    assert "recommended on this data: phi:0.3+agree (lowest of all)" in whole
    assert "a note" in whole


def test_a_hostile_file_name_is_text_in_the_plot(tmp_path: Path) -> None:
    name = r"$x^2$ $\frac{$" + "\x1b\u202e.onnx"
    found = words(replace(REPORT, model=name), tmp_path / "pareto.svg")
    assert r"Selections for $x^2$ $\frac{$\x1b\u202e.onnx, 10 steps each" in found
