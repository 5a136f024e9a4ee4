"""The collector of cycles while large graphs are made."""

from __future__ import annotations

import gc

import pytest

from tgdonnx.graphs.collecting import seldom_collecting


def test_the_collector_looks_seldom_inside_and_as_before_behind() -> None:
    before = gc.get_threshold()
    with seldom_collecting():
        assert gc.get_threshold() == (max(before[0], 1_000_000), *before[1:])
        with seldom_collecting():
            pass
        assert gc.get_threshold()[0] >= 1_000_000
    assert gc.get_threshold() == before


def test_an_error_inside_leaves_the_collector_as_it_was() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="inside"), seldom_collecting():
        raise ValueError("inside")
    assert gc.get_threshold() == before


def test_a_collector_that_is_off_stays_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with seldom_collecting():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
