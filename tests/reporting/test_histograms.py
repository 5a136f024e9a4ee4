"""Histograms of scores, read back from their paths."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tgdonnx.reporting.histograms import BINS, HEIGHT, WIDTH, score_histograms


def bars(path: str, most: int) -> dict[int, tuple[float, float]]:
    """For each bin that is not empty: where its bar begins, counted from below, and how high it is, in maps."""
    found = {}
    for x, top, height in re.findall(r"M([\d.]+) ([\d.]+)h[\d.]+v([\d.]+)h-[\d.]+z", path):
        unit = HEIGHT / most
        found[int(float(x) / (WIDTH / BINS))] = ((HEIGHT - float(top) - float(height)) / unit, float(height) / unit)
    return found


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.525, 1.0])
def test_bars_count_the_maps_of_their_bin_on_either_side_of_phi(phi: float, tmp_path: Path) -> None:
    scores = tgdonnx.score(models.save(models.dncnn(0), tmp_path / "model.onnx")).layers
    histograms = score_histograms(scores, phi)
    assert [h.node for h in histograms] == [layer.node for layer in scores]
    for layer, h in zip(scores, histograms):
        low, high = bars(h.meaningless, h.most), bars(h.useful, h.most)
        counted = {"low": [0] * BINS, "high": [0] * BINS}
        for score in layer.kse:
            counted["low" if score < phi else "high"][min(int(score * BINS), BINS - 1)] += 1
        for index in range(BINS):
            assert low.get(index, (0, 0)) == pytest.approx((0, counted["low"][index]), abs=0.01)
            begin, height = high.get(index, (counted["low"][index], 0))
            assert (begin, height) == pytest.approx((counted["low"][index], counted["high"][index]), abs=0.01)
        assert h.below == sum(counted["low"])
        assert h.maps == sum(counted["low"]) + sum(counted["high"])
        assert h.median == pytest.approx(float(np.median(layer.kse)))
