"""Masks as arrays and as lists of filters and maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgdonnx.selection.mask_arrays import mask_array, mask_parts


@settings(deadline=None)
@given(data=st.data())
def test_kernel_n_c_trains_if_filter_n_does_or_the_map_it_reads_is_released(data: st.DataObject) -> None:
    group, per_group, columns = (data.draw(st.integers(1, 4)) for _ in range(3))
    kernel = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    filters = np.array(data.draw(st.lists(st.booleans(), min_size=group * per_group, max_size=group * per_group)))
    maps = np.array(data.draw(st.lists(st.booleans(), min_size=group * columns, max_size=group * columns)))
    values = mask_array((len(filters), columns, *kernel), group, filters, maps)
    assert values.shape == (len(filters), columns, *[1] * len(kernel))
    assert values.dtype == np.float32
    for n in range(len(filters)):
        for c in range(columns):
            expected = filters[n] or maps[n // per_group * columns + c]
            assert values.reshape(len(filters), columns)[n, c] == expected


def test_without_maps_there_is_one_number_per_filter() -> None:
    filters, none = np.array([True, False, True]), np.zeros(0, bool)
    np.testing.assert_array_equal(mask_array((3, 5, 2, 2), 1, filters, none), np.reshape([1, 0, 1], (3, 1, 1, 1)))
    np.testing.assert_array_equal(mask_array((3,), 1, filters, none), [1, 0, 1])


def test_a_grouped_mask_worked_out_by_hand() -> None:
    # 2 groups of 2 filters and 3 maps. Filter 1 trains; maps 2 (the last of group 0) and 3 (the first of group 1) do.
    filters, maps = np.array([False, True, False, False]), np.array([False, False, True, True, False, False])
    np.testing.assert_array_equal(
        mask_array((4, 3, 1), 2, filters, maps)[:, :, 0], [[0, 0, 1], [1, 1, 1], [1, 0, 0], [1, 0, 0]]
    )


@settings(deadline=None)
@given(data=st.data())
def test_the_parts_of_a_mask_make_the_same_mask_again(data: st.DataObject) -> None:
    group, per_group, columns = (data.draw(st.integers(1, 4)) for _ in range(3))
    bits = st.booleans()
    filters = np.array(data.draw(st.lists(bits, min_size=group * per_group, max_size=group * per_group)))
    maps = np.array(data.draw(st.sampled_from([[], None])) or data.draw(
        st.lists(bits, min_size=group * columns, max_size=group * columns)), bool)  # fmt: skip
    values = mask_array((len(filters), columns, 3), group, filters, maps)
    whole, released = mask_parts(values, group)
    again_filters, again_maps = np.zeros(len(filters), bool), np.zeros(maps.size, bool)
    again_filters[list(whole)] = True
    if released:
        again_maps[list(released)] = True
    np.testing.assert_array_equal(mask_array((len(filters), columns, 3), group, again_filters, again_maps), values)


@pytest.mark.parametrize(
    ("values", "group", "parts"),
    [
        ([[1], [0], [1]], 1, ((0, 2), ())),
        ([[0, 1], [1, 1], [0, 1]], 1, ((1,), (1,))),
        ([[1, 0], [1, 0], [0, 0], [1, 1]], 2, ((3,), (0,))),
        ([[1, 1], [1, 1]], 1, ((0, 1), (0, 1))),
        ([[0, 0], [0, 0]], 1, ((), ())),
    ],
)
def test_parts_worked_out_by_hand(values: list[list[int]], group: int, parts: tuple[object, object]) -> None:
    assert mask_parts(np.array(values, np.float32)[:, :, None], group) == parts
