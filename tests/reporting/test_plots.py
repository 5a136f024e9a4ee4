"""Plots: files of the right kind, which say what they show."""

from __future__ import annotations

import html
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tgdonnx.errors import OutputError, RuntimeMissingError
from tgdonnx.reporting.plots import plot_sweep
from tgdonnx.sweeping import SweepPoint, SweepReport

POINTS = tuple(
    SweepPoint(phi, dropped, dropped * 9, dropped * 10, change, None, ())
    for phi, dropped, change in ((0.1, 0, 0.0), (0.3, 2, 0.01), (0.5, 4, 0.3), (0.7, 6, None))
)
REPORT = SweepReport("somewhere/vendor.onnx", 3, 8, 1.0, 5, 0.04, 0.3, 10, 90, 100, POINTS, ())


@pytest.mark.parametrize(("suffix", "beginning"), [("png", b"\x89PNG"), ("PDF", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_says_the_format(suffix: str, beginning: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"curve.{suffix}"
    plot_sweep(REPORT, path)
    assert path.read_bytes().startswith(beginning)
    assert list(tmp_path.iterdir()) == [path]


def words(report: SweepReport, path: Path) -> list[str]:
    """What is written in the plot: matplotlib notes each text beside its outlines."""
    plot_sweep(report, path, overwrite=True)
    return re.findall(r"<!-- (.*?) -->", path.read_text("utf-8"))


def test_axes_have_units_and_the_legend_tells_tolerance_and_recommendation(tmp_path: Path) -> None:
    found = words(REPORT, tmp_path / "curve.svg")
    for text in (
        "Drop test of vendor.onnx, 3 samples",
        "phi (threshold of the KSE, no unit)",
        "dropped (%)",
        "change (% of the output's",
        "tolerance 4 %",
        "recommended phi 0.3",
        "beyond measure",
    ):
        assert text in found, found


def test_without_recommendation_none_is_drawn(tmp_path: Path) -> None:
    points = tuple(replace(point, change=10.0) for point in POINTS)
    found = words(replace(REPORT, recommended=None, points=points, tolerance=0.0), tmp_path / "curve.svg")
    assert "tolerance 0 %" in found
    assert not [text for text in found if text.startswith(("recommended", "beyond"))]


def test_other_suffixes_and_existing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"ends in \.png, \.svg, \.pdf; got 'curve\.gif'"):
        plot_sweep(REPORT, tmp_path / "curve.gif")
    path = tmp_path / "curve.png"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="`overwrite=True`"):
        plot_sweep(REPORT, path)
    assert path.read_bytes() == b"mine"


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'tgdonnx\[report\]'"):
        plot_sweep(REPORT, tmp_path / "curve.png")


def test_a_hostile_file_name_is_text_in_the_plot(tmp_path: Path) -> None:
    name = r"$x^2$ $\frac{$ --><script>alert(1)</script>" + "\x1b[31m\u202e.onnx"
    path = tmp_path / "curve.svg"
    found = words(replace(REPORT, model=f"somewhere/{name.replace('/', '')}"), path)
    shown = name.replace("/", "").replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").replace("--", "- -")
    assert any(f"Drop test of {shown}, 3 samples" in html.unescape(text) for text in found), found
    assert not [element for element in ElementTree.parse(path).iter() if "script" in element.tag]
    for suffix in ("png", "pdf"):
        plot_sweep(replace(REPORT, model=name.replace("/", "")), tmp_path / f"curve.{suffix}")
