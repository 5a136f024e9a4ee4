"""Several rounds: each starts from what the one before wrote."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import tgdonnx
from tests.support import models
from tests.support.external_models import externalise
from tests.support.tuning import data_for, listing, options_for
from tgdonnx.errors import SelectionError


@pytest.mark.parametrize("external", [False, True])
def test_two_rounds_mask_again_what_the_first_wrote_and_the_report_keeps_both(
    external: bool, tmp_path: Path, scratch: Path
) -> None:
    model = models.dncnn(0)
    for name in ("vendor", "out", "again"):
        (tmp_path / name).mkdir()
    base, tuned = tmp_path / "vendor" / "model.onnx", tmp_path / "out" / "tuned.onnx"
    data = data_for(model)
    models.save(externalise(model, base.parent) if external else model, base)
    before = base.read_bytes()
    report = tgdonnx.finetune(
        base,
        data,
        tuned,
        tgdonnx.Percentile(40),
        options_for(),
        rounds=2,
        results=tgdonnx.Results(artifacts=tmp_path / "kept"),
    )
    assert base.read_bytes() == before
    assert "tuned.onnx" in listing(tmp_path / "out")
    assert (len(listing(tmp_path / "out")) > 1) is external
    assert listing(scratch) == []
    assert listing(tmp_path / "kept") == ["round-1", "round-2"]
    (first,) = report.earlier
    assert (first.mask.selection["round"], report.mask.selection["round"]) == (1, 2)
    tgdonnx.export(tmp_path / "kept" / "round-1", tmp_path / "again" / "tuned.onnx")
    manifest = json.loads((tmp_path / "kept" / "round-2" / "manifest.json").read_text())
    assert manifest["base_sha256"] == hashlib.sha256((tmp_path / "again" / "tuned.onnx").read_bytes()).hexdigest()
    assert first.verify.ok
    assert report.verify.ok
    assert report.verify.evidence == "the records of 2 rounds in the tuned file"
    assert tgdonnx.verify(base, tuned).changed == report.verify.changed
    rows = [{c.name: set(c.filters) for c in part.changed} for part in (first.verify, report.export)]
    both = {name: rows[0].get(name, set()) | rows[1].get(name, set()) for name in {**rows[0], **rows[1]}}
    assert {c.name: set(c.filters) for c in report.verify.changed} == both


def test_protected_rounds_end_when_nothing_new_is_selected_and_the_report_says_so(tmp_path: Path) -> None:
    model = models.dncnn(0)
    base = models.save(model, tmp_path / "model.onnx")
    chosen = tgdonnx.Filters({"w1": [1, 4]})
    report = tgdonnx.finetune(
        base,
        data_for(model),
        tmp_path / "a.onnx",
        chosen,
        options_for(),
        rounds=3,
        masking=tgdonnx.MaskOptions(protect=True),
    )
    assert report.earlier == ()
    assert report.note is not None
    assert report.note.startswith("there was no round 2: all that is selected was trained by an earlier round")
    once = tgdonnx.finetune(
        base, data_for(model), tmp_path / "b.onnx", chosen, options_for(), masking=tgdonnx.MaskOptions(protect=True)
    )
    assert once.note is None
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with pytest.raises(SelectionError, match="trained by an earlier round"):
        tgdonnx.finetune(
            tmp_path / "a.onnx",
            data_for(model),
            tmp_path / "c.onnx",
            chosen,
            options_for(),
            masking=tgdonnx.MaskOptions(protect=True),
        )
    assert not (tmp_path / "c.onnx").exists()


def test_less_than_one_round_is_refused(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "model.onnx")
    with pytest.raises(SelectionError, match="expected at least 1 round, got 0"):
        tgdonnx.finetune(base, data_for(models.dncnn(0)), tmp_path / "t.onnx", tgdonnx.AllLayers(), rounds=0)
