"""Scores that floating point may put on either side of phi."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.forging import body_of, entry, refused, tune_by_hand
from tests.verifying.cases import scores_of


@pytest.mark.parametrize(("distance", "is_believed"), [(2e-7, True), (-2e-7, True), (5e-6, False), (-5e-6, False)])
def test_a_filter_that_scores_within_a_millionth_of_phi_may_be_on_either_side_and_that_is_said(
    distance: float, is_believed: bool, tmp_path: Path
) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    finite = np.sort(np.concatenate([s[np.isfinite(s)] for s in scores_of(base).values()]))
    score = float(finite[len(finite) // 2])
    tgdonnx.mask(base, tmp_path / "masked.onnx", tgdonnx.Phi(score + distance))
    record = tune_by_hand(tmp_path / "masked.onnx", tmp_path / "tuned.onnx")
    # As on another machine, which sums the score to something on the other side of the same phi.
    body = body_of((tmp_path / "tuned.onnx").read_bytes(), record)
    record["selection"]["phi"] = score - distance
    (tmp_path / "tuned.onnx").write_bytes(body + entry(1, record))
    if is_believed:
        report = tgdonnx.verify(base, tmp_path / "tuned.onnx")
        assert report.ok, report.violations
        assert "within 1e-06 of phi are taken as recorded" in report.rounds[0].sentence
    else:
        assert refused(base, tmp_path / "tuned.onnx")
