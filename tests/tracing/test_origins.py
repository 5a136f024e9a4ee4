"""Unions of origins, as arrays and as sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tgdonnx.tracing import Origin
from tgdonnx.tracing.origins import OriginIds, OriginTable

SHAPES = [(), (1,), (3,), (2, 1), (2, 3), (1, 2, 3), (4, 1, 1), (4, 2, 3), (1, 1, 1)]
ORIGINS = [
    Origin(),
    Origin(producers=frozenset({(0, 1)})),
    Origin(producers=frozenset({(0, 1), (2, 0)})),
    Origin(inputs=frozenset({"x"})),
    Origin(opaque="because"),
    Origin(producers=frozenset({(1, 1)}), inputs=frozenset({"y"}), opaque="therefore"),
]


def table() -> OriginTable:
    new = OriginTable()
    for origin in ORIGINS:
        new.add(origin)
    return new


def arrays() -> st.SearchStrategy[OriginIds]:
    return st.sampled_from(SHAPES).flatmap(
        lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, len(ORIGINS) - 1))
    )


@settings(deadline=None)
@given(parts=st.lists(arrays(), min_size=1, max_size=4))
def test_a_union_of_arrays_is_the_union_of_the_sets_at_every_place(parts: list[OriginIds]) -> None:
    origins = table()
    result = origins.union(*parts)
    full = np.broadcast_arrays(*parts)
    assert result.shape == full[0].shape
    for place in np.ndindex(result.shape):
        met = [ORIGINS[part[place]] for part in full]
        united = origins[int(result[place])]
        assert united.producers == frozenset().union(*(origin.producers for origin in met))
        assert united.inputs == frozenset().union(*(origin.inputs for origin in met))
        reasons = {origin.opaque for origin in met} - {None}
        assert united.opaque in reasons or (united.opaque is None and not reasons)


@settings(deadline=None)
@given(ids=arrays(), data=st.data())
def test_a_union_along_axes_is_the_union_of_the_sets_along_them(ids: OriginIds, data: st.DataObject) -> None:
    axes = tuple(data.draw(st.sets(st.integers(0, ids.ndim - 1)))) if ids.ndim else ()
    origins = table()
    result = origins.union_along(ids, axes)
    assert result.shape == tuple(1 if axis in axes else length for axis, length in enumerate(ids.shape))
    for place in np.ndindex(result.shape):
        line = ids[tuple(slice(None) if axis in axes else i for axis, i in enumerate(place))]
        assert origins[int(result[place])].producers == frozenset().union(
            *(ORIGINS[int(i)].producers for i in np.ravel(line))
        )


def test_equal_origins_have_one_number() -> None:
    origins = OriginTable()
    first = origins.add(Origin(producers=frozenset({(3, 1)})))
    assert origins.add(Origin(producers=frozenset({(3, 1)}))) == first
    assert origins.add(Origin(producers=frozenset({(1, 3)}))) != first
    assert origins[first] == Origin(producers=frozenset({(3, 1)}))


def test_arrays_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape mismatch|broadcast"):
        table().union(np.zeros(2, np.int64), np.ones(3, np.int64))


def test_a_union_leaves_its_operands_alone() -> None:
    a, b = np.array([[0, 1, 2]]), np.array([[3], [1]])
    table().union(a, b)
    np.testing.assert_array_equal(a, [[0, 1, 2]])
    np.testing.assert_array_equal(b, [[3], [1]])
