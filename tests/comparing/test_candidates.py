"""Selections by name."""

from __future__ import annotations

import pytest

from tgdonnx import (
    Adapter,
    AllLayers,
    FirstLayers,
    FisherFilters,
    LastLayers,
    Percentile,
    Phi,
    RandomFilters,
    SteepestFilters,
)
from tgdonnx.comparing import DEFAULT_SELECTIONS, parse_candidates
from tgdonnx.errors import SelectionError

RECOMMENDED = Phi(0.4)


@pytest.mark.parametrize(
    ("name", "strategy", "mode", "regularisers"),
    [
        ("tgd", RECOMMENDED, "paper", set()),
        ("tgd-readers+agree", RECOMMENDED, "readers", {"agree"}),
        ("phi:0.25", Phi(0.25), "paper", set()),
        ("phi-readers:0.25", Phi(0.25), "readers", set()),
        ("percentile:12.5+l2sp", Percentile(12.5), "paper", {"l2sp"}),
        ("percentile-readers:10", Percentile(10.0), "readers", set()),
        ("regrow", RECOMMENDED, "regrow", set()),
        ("regrow-isolate+l2sp", RECOMMENDED, "regrow", {"l2sp"}),
        ("phi-regrow:0.25", Phi(0.25), "regrow", set()),
        ("phi-regrow-isolate:0.25", Phi(0.25), "regrow", set()),
        ("percentile-regrow:10", Percentile(10.0), "regrow", set()),
        ("percentile-regrow-isolate:10", Percentile(10.0), "regrow", set()),
        ("last:3", LastLayers(3), "paper", set()),
        ("first:2+agree+l2sp", FirstLayers(2), "paper", {"agree", "l2sp"}),
        (" all ", AllLayers(), "paper", set()),
        ("steepest:0.2", SteepestFilters(0.2), "paper", set()),
        ("fisher-readers:0.1+agree", FisherFilters(0.1), "readers", {"agree"}),
        ("random:0.2", RandomFilters(0.2, 7), "paper", set()),
        ("adapter", AllLayers(), "adapter", set()),
        ("adapter:4+l2sp", AllLayers(), "adapter", {"l2sp"}),
    ],
)
def test_what_a_name_stands_for(name: str, strategy: object, mode: str, regularisers: set[str]) -> None:
    (candidate,) = parse_candidates([name])
    assert candidate.name == name.strip()
    assert candidate.strategy(RECOMMENDED, 7) == strategy
    assert (candidate.mode, candidate.regularisers) == (mode, frozenset(regularisers))
    assert candidate.isolate == ("isolate" in name)
    assert ":" not in candidate.folder


def test_a_rank_is_that_of_the_side_paths() -> None:
    by_default, given, other = parse_candidates(["adapter", "adapter:4", "all"])
    assert by_default.adapter(3) == other.adapter(3) == Adapter(seed=3)
    assert given.adapter(3) == Adapter(4, 3)


def test_folders_of_the_default_are_all_different() -> None:
    candidates = parse_candidates(DEFAULT_SELECTIONS)
    assert len({candidate.folder for candidate in candidates}) == len(DEFAULT_SELECTIONS)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tdg"], "unknown selection 'tdg'; expected tgd, tgd-readers"),
        (["all-readers"], "unknown selection 'all-readers'"),
        (["tgd-isolate"], "unknown selection 'tgd-isolate'"),
        (["phi-readers-isolate:0.3"], "unknown selection"),
        (["regrow:0.3"], "regrow takes no number"),
        (["tgd+l2"], r"unknown regulariser in 'tgd\+l2'; expected a selection with \+l2sp or \+agree"),
        (["tgd+agree+agree"], "unknown regulariser"),
        (["last"], "'last': expected a number behind a colon, such as last:2"),
        (["last:1.5"], "expected a number"),
        (["percentile:x"], "such as percentile:10"),
        (["phi:nan", "phi:"], "such as phi:0.3"),
        (["steepest"], "'steepest': expected a number behind a colon, such as steepest:0.1"),
        (["all:3"], "all takes no number"),
        (["adapter:0"], "'adapter:0': expected the rank of side paths behind the colon"),
        (["adapter:x"], "such as adapter:4"),
        (["adapter-isolate"], "unknown selection"),
        (["phi-adapter:0.3"], "unknown selection"),
        (["none+agree", "all"], "nothing trains"),
        (["all", "none", "all"], "'all' is given twice"),
        (["tgd+l2sp+agree", "tgd+agree+l2sp"], "given twice"),
        (["percentile:10", "percentile:10.0"], "given twice"),
        (["none"], "expected selections to compare with the vendor's model"),
        ([], "expected selections to compare"),
    ],
)
def test_what_is_no_selection(names: list[str], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        parse_candidates(names)
