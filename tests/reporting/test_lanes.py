"""Lines beside rows: every reader is reached, and what is read later passes by."""

from __future__ import annotations

import numpy as np
import pytest

from tgdonnx.reporting.lanes import Lines, lines_of, path_of, width_of


def test_a_chain_stands_in_one_lane() -> None:
    lines = lines_of([(), (0,), (1,)])
    assert lines == [Lines(0, (), (), True), Lines(0, (), (0,), True), Lines(0, (), (0,), False)]
    assert width_of(lines) == 1
    assert path_of(lines[1]) == "M1 0L1 1M1 1V2"


def test_what_skips_rows_passes_by_them_and_joins_at_its_reader() -> None:
    lines = lines_of([(), (0,), (1,), (0, 2)])
    assert [each.lane for each in lines] == [0, 1, 1, 0]
    assert [each.passing for each in lines] == [(), (0,), (0,), ()]
    assert lines[3].joining == (0, 1)
    assert path_of(lines[3]) == "M1 0L1 1M3 0L1 1"
    assert path_of(lines[1]) == "M1 0V2M1 0L3 1M3 1V2"


@pytest.mark.parametrize("seed", range(5))
def test_in_any_graph_no_two_rows_share_a_lane_while_both_are_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = [tuple(rng.choice(row, min(row, rng.integers(0, 4)), replace=False).tolist()) for row in range(40)]
    last = {source: row for row, read in enumerate(sources) for source in read}
    lines = lines_of(sources)
    for row, each in enumerate(lines):
        open_above = {lines[s].lane: s for s in range(row) if last.get(s, -1) >= row}
        assert len(open_above) == sum(last.get(s, -1) >= row for s in range(row))
        assert [open_above[lane] for lane in each.joining] == sorted(sources[row], key=lambda s: lines[s].lane)
        assert set(each.passing) == {lane for lane, s in open_above.items() if last[s] > row}
        assert each.lane not in each.passing
        assert each.goes_on == (row in last)


def test_nothing_has_no_lanes() -> None:
    assert width_of(lines_of([])) == 0
