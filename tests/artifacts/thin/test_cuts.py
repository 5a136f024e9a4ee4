"""Which masks are cut into rows and columns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.artifacts.thin.forms import kernel_mask
from tgdonnx.artifacts.thin.cuts import cuts_of, piece


def subsets(size: int) -> list[list[int]]:
    return [list(chosen) for count in range(size + 1) for chosen in itertools.combinations(range(size), count)]


# All 0/1 tables of 3 rows and 2 columns that are a union of rows and columns, found by trying all.
TABLES = {kernel_mask((3, 2), (0, 1), rows, columns).tobytes() for rows in subsets(3) for columns in subsets(2)}


@pytest.mark.parametrize("filter_axis", [0, 1, None])
@pytest.mark.parametrize("bits", range(2**6))
def test_exactly_unions_of_rows_and_columns_are_cut(bits: int, filter_axis: int | None) -> None:
    table = np.array([bits >> place & 1 for place in range(6)], np.float32).reshape(3, 2)
    cuts = cuts_of(table, filter_axis)
    assert bool(cuts) == (table.tobytes() in TABLES and 0 < table.sum() < 6)
    pieces = [piece(cuts[: count + 1]) for count in range(len(cuts))]
    counts = np.zeros((3, 2))
    for part in pieces:
        indices = dict(part)
        assert all(len(each) for each in indices.values())
        counts[np.ix_(indices.get(0, np.arange(3)), indices.get(1, np.arange(2)))] += 1
    assert np.array_equal(counts, table if cuts else np.zeros((3, 2)))
    if len(cuts) == 2:
        assert cuts[0].axis == (filter_axis or 0)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_axes_may_be_any(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(2, 5), min_size=2, max_size=4))
    axes = tuple(data.draw(st.permutations(range(len(shape))))[:2])
    rows, columns = (
        sorted(data.draw(st.sets(st.integers(0, shape[axis] - 1), min_size=1, max_size=shape[axis] - 1)))
        for axis in axes
    )
    mask = kernel_mask(shape, (axes[0], axes[1]), rows, columns)
    wide = data.draw(st.booleans())
    first, second = cuts_of(np.broadcast_to(mask, shape) if wide else mask, axes[0])
    assert (first.axis, first.chosen.tolist()) == (axes[0], rows)
    assert (second.axis, second.chosen.tolist()) == (axes[1], columns)
    assert sorted([*first.chosen, *first.others]) == list(range(shape[axes[0]]))


def test_masks_of_single_elements_are_not_cut() -> None:
    mask = np.ones((3, 4, 2), np.float32)
    mask[1, 2, 1] = 0
    assert cuts_of(mask, 0) == ()
