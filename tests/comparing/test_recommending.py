"""What tgd stands for where the drop test recommends no phi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.comparing.comparisons import compare, within
from tests.finetuning.runs import data
from tgdonnx.errors import SelectionError


def test_where_the_drop_test_recommends_no_phi_it_is_said_and_a_percentile_is_taken(
    vendor: Path, tmp_path: Path
) -> None:
    recommended = tgdonnx.sweep(vendor, data()).recommended
    assert recommended is not None
    plain: dict[str, Any] = {"agree": None, "l2_sp": 0.0}
    report = compare(vendor, tmp_path / "phi", ("tgd",), **plain)
    assert report.entries[0].selection["phi"] == recommended
    assert report.notes == ()
    report = compare(vendor, tmp_path / "none", ("tgd",), masking=within(1e-6), **plain)
    taken = report.entries[0].selection["percentile"]
    with pytest.raises(SelectionError, match="selects no filter"):
        tgdonnx.mask(vendor, tmp_path / "m.onnx", tgdonnx.Percentile(10))
    assert taken == 20
    assert "the drop test recommends no phi, so tgd takes the lowest 20 % of the scores" in report.notes[0]
    again = compare(vendor, tmp_path / "none", ("tgd",), masking=within(1e-6), **plain)
    assert again.notes == report.notes
