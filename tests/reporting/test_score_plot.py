"""The plot of scores is of the layers that were scored."""

from __future__ import annotations

from pathlib import Path

import pytest

import tgdonnx
from tests.support import models
from tgdonnx.errors import OutputError
from tgdonnx.reporting.score_plot import plot_scores


def test_the_plot_names_every_layer_and_how_many_of_its_maps_are_below_phi(tmp_path: Path) -> None:
    path = models.save(models.dncnn(0), tmp_path / "model.onnx")
    report = tgdonnx.inspect(path)
    plot_scores(report, tmp_path / "scores.svg")
    text = (tmp_path / "scores.svg").read_text("utf-8")
    for layer in report.layers:
        assert f"<!-- {layer.node}  {layer.below_phi}/{layer.kse.size} -->" in text


def test_the_plot_is_not_written_over_the_model_and_has_a_known_format(tmp_path: Path) -> None:
    path = models.save(models.dncnn(0), tmp_path / "model.onnx")
    report = tgdonnx.inspect(path)
    with pytest.raises(OutputError):
        plot_scores(report, path, overwrite=True)
    with pytest.raises(OutputError, match=r"\.png, \.svg, \.pdf"):
        plot_scores(report, tmp_path / "scores.gif")
