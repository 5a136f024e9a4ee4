"""Honest tuned files pass, and it is said by which form of proof."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.oracles.independent import expected_masks
from tests.support import models
from tests.verifying.cases import PHI, Case


@pytest.mark.parametrize(
    ("name", "proof", "word"),
    [
        ("paper", "recomputed", "phi 0.3, mode paper, computed again"),
        ("readers", "recomputed", "phi 0.3, mode readers, computed again"),
        ("percentile", "recomputed", "percentile 30, mode paper, computed again"),
        ("last", "recomputed", "the last 2 layers, mode paper, computed again"),
        (
            "list",
            "recorded",
            "a list of filters, mode paper; the list is the record's own word; name it with `filters`",
        ),
    ],
)
def test_an_honest_file_passes_and_its_form_of_proof_is_said(
    name: str, proof: str, word: str, made: Path, tmp_path: Path
) -> None:
    case = Case(made, tmp_path, name)
    for masked in (None, case.masked):
        report = tgdonnx.verify(case.base, case.tuned, masked)
        assert report.ok, report.violations
        assert (report.proof, [each.round for each in report.rounds]) == (proof, [1])
        assert word.replace("record's", "record's" if masked is None else "masked model's") in report.rounds[0].sentence


def test_a_list_from_elsewhere_is_an_independent_proof_and_another_list_is_refused(made: Path, tmp_path: Path) -> None:
    case = Case(made, tmp_path, "list")
    report = tgdonnx.verify(case.base, case.tuned, filters={"w1": [4, 1], "w2": [0, 3]})
    assert (report.ok, report.proof) == (True, "listed")
    for other in ({"w1": [1, 4], "w2": [0]}, {"w1": [1, 4], "w2": [0, 3, 5]}, {"w1": [1, 4]}):
        for masked in (False, True):
            assert any("by the list that was given" in each for each in case.refused(masked=masked, filters=other))
    with pytest.raises(tgdonnx.errors.SelectionError, match="'nothing' is not the weight of a layer"):
        tgdonnx.verify(case.base, case.tuned, filters={"nothing": [0]})


def test_a_list_from_elsewhere_proves_a_selection_by_score_too(case: Case) -> None:
    masks = expected_masks(models.dncnn(0), PHI)
    rows = {n: [int(m) for m in np.flatnonzero(v.reshape(len(v), -1).any(1))] for n, v in masks.items() if n[0] == "w"}
    assert tgdonnx.verify(case.base, case.tuned, filters=rows).proof == "listed"
    rows["w2"] = rows["w2"][1:]
    assert case.refused(filters=rows)


def test_files_that_are_the_same_need_no_record_and_say_so(case: Case) -> None:
    for masked in (None, case.masked):
        report = tgdonnx.verify(case.base, case.base, masked)
        assert (report.ok, report.changed, report.proof, report.rounds) == (True, (), "identical", ())
