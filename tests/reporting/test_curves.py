"""Curves: downsampled without losing an extreme, as SVG that can be put into a page many times."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.reporting.runs import epoch, step, write_log
from tgdonnx.reporting.curves import MOST_POINTS, downsample, evaluation_curve, loss_curve, rate_curve
from tgdonnx.reporting.history import History, read_history


@pytest.fixture
def history(tmp_path: Path) -> History:
    write_log(
        tmp_path,
        [
            *(step(i, 0.004 + 0.002 * np.cos(i)) for i in range(1, 41)),
            epoch(0, 0, None, 0.005),
            epoch(1, 40, 0.004, 0.003),
        ],
    )
    return read_history(tmp_path)


@pytest.mark.parametrize("count", [1, 2, MOST_POINTS, MOST_POINTS + 1, 3 * MOST_POINTS - 7, 100_003])
def test_a_thinned_curve_is_short_and_keeps_mean_and_extremes_of_every_stretch(count: int) -> None:
    rng = np.random.default_rng(count)
    x, values = np.cumsum(rng.integers(1, 4, count)).astype(np.float64), rng.normal(0, 1, count)
    downsampled = downsample(x, values)
    assert len(downsampled.x) <= MOST_POINTS
    pieces = [slice(i, i + downsampled.stretch) for i in range(0, count, downsampled.stretch)]
    np.testing.assert_array_equal(downsampled.x, [x[p][-1] for p in pieces])
    np.testing.assert_allclose(downsampled.mean, [values[p].mean() for p in pieces], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(downsampled.low, [values[p].min() for p in pieces])
    np.testing.assert_array_equal(downsampled.high, [values[p].max() for p in pieces])
    assert (downsampled.stretch == 1) == (count <= MOST_POINTS)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


def labels(svg: str) -> list[float]:
    """The numbers along the vertical axis: those left of the others."""
    return [float(text.replace("−", "-")) for text in texts(svg) if re.fullmatch(r"[-−]?[\d.e-]+", text)]


def test_small_losses_are_labelled_with_all_their_digits(history: History) -> None:
    numbers = [value for value in labels(loss_curve(history, None).svg) if 0 < value < 1]
    assert len(set(numbers)) >= 3
    assert min(numbers) < 0.003 < 0.005 < max(numbers)


def test_where_drawn_the_curve_has_the_values_of_the_log(history: History) -> None:
    root = ElementTree.fromstring(loss_curve(history, None).svg)
    line = next(p for p in root.iter("path") if "var(--blue)" in p.get("style", "") and p.get("d", "").count("L") == 39)
    heights = np.array([float(y) for _, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", line.get("d", ""))])
    # Down is up in SVG: an affine map with negative slope takes losses to heights.
    correlation = np.corrcoef(heights, history.losses)[0, 1]
    assert correlation < -0.999999


def test_a_wide_range_of_losses_is_drawn_logarithmically_and_said(tmp_path: Path) -> None:
    write_log(tmp_path, [step(i, 10.0 ** (-i / 10)) for i in range(1, 41)])
    curve = loss_curve(read_history(tmp_path), None)
    assert curve.logarithmic
    assert "loss (logarithmic)" in texts(curve.svg)
    assert {0.001, 0.01, 0.1} <= set(labels(curve.svg))


def test_the_exported_step_is_marked(history: History) -> None:
    assert loss_curve(history, 40).svg.count("var(--green)") == 1
    assert "var(--green)" not in loss_curve(history, None).svg


def test_figures_name_nothing_outside_and_nothing_twice(history: History) -> None:
    curves = [
        loss_curve(history, 40),
        rate_curve(history),
        evaluation_curve("metric0", [0, 20, 40], [20.0, 22.0, 21.0], 20, start=True),
        evaluation_curve("metric1", [0, 20, 40], [20.0, 22.0, 21.0], 20, start=True),
    ]
    ids: list[str] = []
    for curve in curves:
        assert "http" not in curve.svg
        assert "<style" not in curve.svg
        assert "font-family" not in curve.svg
        assert not re.search("#[0-9a-f]{6}", curve.svg), "a colour that does not follow the scheme"
        own = re.findall(r' id="([^"]*)"', curve.svg)
        used = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', curve.svg))
        assert {a or b for a, b in used} == set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_the_learning_rate_starts_at_zero_so_that_its_decay_shows(history: History) -> None:
    assert min(labels(rate_curve(history).svg)) == 0


def test_drawing_leaves_the_settings_of_matplotlib_alone(history: History) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    loss_curve(history, 40)
    assert dict(matplotlib.rcParams) == before
