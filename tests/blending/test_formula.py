"""The formula on single numbers: exact at both ends, within one rounding between, and never a bit where nothing moved."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgdonnx.blending.formula import interpolated, require_blend, scaled
from tgdonnx.errors import DataError

finite = st.floats(-(2.0**126), 2.0**126, width=32)
blends = st.floats(0, 1)


@given(finite, finite, blends)
def test_between_the_ends_a_stored_number_is_within_one_rounding_of_the_formula(
    first: float, last: float, blend: float
) -> None:
    found = float(interpolated(np.float32([first]), np.float32([last]), blend).astype(np.float32)[0])
    exact = Fraction(first) + Fraction(blend) * (Fraction(last) - Fraction(first))
    # Half a unit in the last place, and what the float64 arithmetic before it adds.
    unit = Fraction(float(np.spacing(np.float32(abs(found)))))
    float64 = Fraction(2) ** -50 * max(abs(Fraction(first)), abs(Fraction(last)))
    assert abs(Fraction(found) - exact) <= unit / 2 + float64


@given(finite, finite)
def test_both_ends_are_exact_to_the_bit(first: float, last: float) -> None:
    start, trained = np.float32([first]), np.float32([last])
    assert interpolated(start, trained, 0).astype(np.float32).tobytes() == start.tobytes()
    assert interpolated(start, trained, 1).astype(np.float32).tobytes() == trained.tobytes()
    assert scaled(trained, 1).astype(np.float32).tobytes() == trained.tobytes()
    assert scaled(trained, 0).tobytes() == np.zeros(1).tobytes()


@given(finite, blends)
def test_what_did_not_move_keeps_its_bits_also_minus_zero(value: float, blend: float) -> None:
    for number in (value, -0.0):
        array = np.float32([number])
        assert interpolated(array, array, blend).astype(np.float32).tobytes() == array.tobytes()


@pytest.mark.parametrize("blend", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_blend_outside_0_and_1_is_refused(blend: float) -> None:
    with pytest.raises(DataError, match=r"expected a blend from 0 .* to 1 .*, got"):
        require_blend(blend)
