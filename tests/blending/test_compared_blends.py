"""`compare`: every selection is a curve over the blend, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tgdonnx
from tests.blending.runs import data_of
from tests.support.models import dncnn, save
from tgdonnx.comparing import CompareReport, running
from tgdonnx.reporting.pareto import plot_compare

OPTIONS = tgdonnx.TrainOptions(steps=8, batch=2, learning_rate=1e-2, metrics=("rmse",))


def compared(work: Path, options: tgdonnx.TrainOptions = OPTIONS) -> CompareReport:
    model = dncnn(0)
    path = work / "model.onnx"
    return tgdonnx.compare(
        path if path.exists() else save(model, path),
        tgdonnx.RunData(data_of(model, 1), validation=data_of(model, 2), retain=data_of(model, 3)),
        work / "all",
        ["none", "last:1", "all"],
        options,
        building=tgdonnx.BuildOptions(engine="onnxruntime"),
    )


def test_every_selection_has_its_curve_from_the_vendors_model_to_its_best_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = compared(tmp_path)
    vendor, *trained = report.entries
    assert vendor.blend is None
    for entry in trained:
        assert entry.blend is not None
        first, last = entry.blend.curve[0], entry.blend.curve[-1]
        assert (first.blend, last.blend, len(entry.blend.curve)) == (0, 1, 11)
        assert first.loss == pytest.approx(vendor.best.loss, rel=1e-5)
        assert first.retain["rmse"] == pytest.approx(vendor.best.old, rel=1e-5)
        assert (last.loss, last.retain["rmse"]) == pytest.approx((entry.best.loss, entry.best.old), rel=1e-5)
        assert entry.blend.step == entry.best.step > 0
    blended = min(trained, key=lambda entry: entry.blend.at_chosen.loss)  # type: ignore[union-attr]
    assert blended.blend is not None
    said = [note for note in report.notes if "of the blends that are chosen" in note]
    assert len(said) == (blended.blend.chosen != 1)
    if said:
        assert f"that of {blended.name} has the lowest validation loss" in said[0]
        assert said[0].endswith(f"with `blend={blended.blend.chosen:g}`")
    plot_compare(report, tmp_path / "pareto.svg")
    assert "dotted: blends of the best; cross: the one chosen" in (tmp_path / "pareto.svg").read_text("utf-8")
    # The same again evaluates nothing, and another limit only chooses again.
    monkeypatch.setattr(running, "blend_run", None)
    assert compared(tmp_path).entries == report.entries
    old = [point.retain["rmse"] for point in trained[1].blend.curve]  # type: ignore[union-attr]
    limited = compared(tmp_path, replace(OPTIONS, retain_limit=1e9)).entries[2].blend
    assert limited is not None
    assert limited.chosen == min(limited.curve, key=lambda point: point.loss).blend
    assert [point.retain["rmse"] for point in limited.curve] == old
