"""Filters that were selected by a gradient on data that is not at hand: the list is the evidence's own word."""

from __future__ import annotations

from pathlib import Path

import pytest

import tgdonnx
from tests.support.forging import body_of, tune_by_hand
from tests.verifying.cases import Case
from tgdonnx.selection import FisherFilters, RandomFilters, SteepestFilters

ROWS = {"w1": [1, 4], "w2": [0, 3]}


def tuned(made: Path, tmp_path: Path, strategy: str, fraction: float) -> Case:
    """A tuned file in which the filters of a list trained, whose record says that they were measured."""
    case = Case(made, tmp_path, "list")
    assert case.record["selection"]["filters"] == ROWS
    case.record["selection"] = {
        **{"strategy": strategy, "fraction": fraction, "measured": 24, "filters": ROWS},
        **{"mode": "paper", "round": 1},
    }
    case.write()
    return case


@pytest.mark.parametrize(("strategy", "words"), [("steepest", "the steepest"), ("fisher", "of the largest Fisher")])
def test_what_was_measured_on_data_is_the_records_own_word_unless_the_list_is_given(
    strategy: str, words: str, made: Path, tmp_path: Path
) -> None:
    case = tuned(made, tmp_path, strategy, 0.9)
    report = tgdonnx.verify(case.base, case.tuned)
    assert (report.ok, report.proof) == (True, "recorded")
    assert f"a list of filters ({words}" in report.rounds[0].sentence
    assert "the list is the record's own word" in report.rounds[0].sentence
    assert "computed again" not in report.rounds[0].sentence
    assert tgdonnx.verify(case.base, case.tuned, filters=ROWS).proof == "listed"


@pytest.mark.parametrize("strategy", ["steepest", "fisher"])
def test_a_list_that_holds_more_weights_than_the_fraction_is_refused(strategy: str, made: Path, tmp_path: Path) -> None:
    case = tuned(made, tmp_path, strategy, 0.01)
    assert any("more than the fraction 0.01 that was asked for" in each for each in case.refused()), case.refused()


@pytest.mark.parametrize("kind", [SteepestFilters, FisherFilters])
def test_a_masked_model_of_what_was_measured_is_believed_by_its_word_too(
    kind: type[SteepestFilters], made: Path, tmp_path: Path
) -> None:
    case = tuned(made, tmp_path, "steepest" if kind is SteepestFilters else "fisher", 0.9)
    tgdonnx.mask(case.base, case.masked, kind(0.9, 24, ROWS), overwrite=True)
    report = tgdonnx.verify(case.base, case.tuned, case.masked)
    assert (report.ok, report.proof) == (True, "recorded")
    assert "the masked model's own word" in report.rounds[0].sentence


def test_filters_at_random_are_drawn_again_and_another_list_or_draw_is_refused(made: Path, tmp_path: Path) -> None:
    case = Case(made, tmp_path, "list")
    tgdonnx.mask(case.base, tmp_path / "random.onnx", RandomFilters(0.4, 3))
    honest = tune_by_hand(tmp_path / "random.onnx", case.tuned)
    assert tgdonnx.verify(case.base, case.tuned).proof == "recomputed"
    case.body = body_of(case.tuned.read_bytes(), honest)
    for change in ({"draw": 4}, {"fraction": 0.2}):
        case.write({**honest, "selection": {**honest["selection"], **change}})
        assert any("by filters at random with" in each for each in case.refused())
